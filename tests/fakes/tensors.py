"""A source of seeded tensors in memory, and what the bundles of each table are by definition."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tests.fakes.models import tokenizer_json
from tidemill.storage.convert.tables import expected_shapes, tensors_of
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Element, Source, Table
from tidemill.storage.manifest_rules import expected_tables

Words = npt.NDArray[np.uint16]


class MemorySource:
    """A TensorSource of bf16 weights; counts the rows that were read."""

    def __init__(self, decoder: DecoderSpec, *, seed: int = 0) -> None:
        self.decoder = decoder
        self.source = Source(kind="synthetic", name="memory", fingerprint=f"seed-{seed}", note="")
        self.files: Mapping[str, bytes] = {"tokenizer.json": tokenizer_json(decoder.vocab_size)}
        self.weights: dict[str, Words] = {}
        self.rows_read = 0
        rng = np.random.default_rng(seed)
        for role, layer, _ in expected_tables(decoder, head_apart=not decoder.tied_head):
            names = tensors_of(decoder, role, layer)
            for name, shape in zip(names, expected_shapes(decoder, role), strict=True):
                values = rng.standard_normal(shape).astype(np.float32)
                self.weights[name] = (values.view(np.uint32) >> 16).astype(np.uint16)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].shape

    def element(self, name: str) -> Element:
        return "bf16"

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        weights = self.weights[name]
        self.rows_read += stop - start
        return (weights[None] if weights.ndim == 1 else weights[start:stop]).view(np.uint8)

    def others(self, names: Collection[str]) -> list[str]:
        return sorted(set(self.weights) - set(names))

    def close(self) -> None: ...


def expected_bundles(weights: Mapping[str, Words], table: Table, orders: Mapping[int, npt.NDArray[np.uint32]]) -> Words:
    """The bundles of a matrix of the layers [N, elements], from whole tensors under Hugging Face names."""
    by_layer: list[Words] = []
    for layer in range(table.layer, table.layer + table.layers):
        tensor = {
            name.split(".")[4]: tensor for name, tensor in weights.items() if name.startswith(f"model.layers.{layer}.")
        }  # fmt: skip
        if layer in orders:
            order = orders[layer]
            tensor |= {"gate_proj": tensor["gate_proj"][order], "up_proj": tensor["up_proj"][order]}
            tensor["down_proj"] = tensor["down_proj"][:, order]
        by_layer.append(_layer_bundles(table, tensor))
    return np.stack(by_layer, axis=1).reshape(-1, table.bundle_elements)


def _layer_bundles(table: Table, tensor: Mapping[str, Words]) -> Words:
    q, k, v, o = (tensor[f"{name}_proj"] for name in "qkvo")
    gate, up, down = tensor["gate_proj"], tensor["up_proj"], tensor["down_proj"]
    parts: Sequence[Words]
    match table.role, table.layout:
        case "attn_qkv", "input-channel":
            parts = [q.T, k.T, v.T]
        case "attn_qkv", _:
            return np.concatenate([q, k, v])
        case "attn_out", "input-channel":
            parts = [o.T]
        case "attn_out", _:
            parts = [o]
        case "mlp_in", _:
            parts = [gate.T, up.T]
        case "mlp_down", _:
            parts = [down.T]
        case "mlp_gate", _:
            parts = [gate]
        case "mlp_updown", _:
            parts = [up, down.T]
        case _:
            parts = [gate, up, down.T]
    return np.concatenate(parts, axis=1)
