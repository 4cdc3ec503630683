"""Which tables a decoder has in a layout, of which source tensors, and how they are stored."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tidemill.storage.codecs.bf16_bundles import bf16_bundle_bytes
from tidemill.storage.codecs.bf16_codes import exception_share
from tidemill.storage.codecs.planes import EXCEPTION_SHARE_MAX
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.convert.neuron_order import NeuronOrder
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import SourceError
from tidemill.storage.manifest import ELEMENT_BYTES, MODEL_LAYER, Element, ModelLayout, Plane, Role, Table
from tidemill.storage.manifest_rules import ORDERED_ROLES, expected_tables
from tidemill.storage.model_layout import GROUPED_ROLES, Groups, Shape, layers_of, segments_of

EMBED_BLOCK_BYTES = 65536  # what reading one embedding row costs on flash; smaller reads cost nearly the same
SAMPLED_ROWS = 32  # of a tensor looked at to choose its codec
AUTO_CODEC = "auto"


class LayoutChoice(NamedTuple):
    """How a conversion lays the matrices of the layers out. `group`: layers that a table of GROUPED_ROLES spans in
    layout input-channel."""

    layout: ModelLayout
    group: int

    @property
    def groups(self) -> Groups:
        return dict.fromkeys(GROUPED_ROLES, self.group) if self.group > 1 else {}


DENSE = LayoutChoice("dense", 1)

LAYER_TENSORS: Mapping[Role, Sequence[str]] = {
    "attn_norm": ["input_layernorm.weight"],
    "qkv_bias": ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    "q_norm": ["self_attn.q_norm.weight"],
    "k_norm": ["self_attn.k_norm.weight"],
    "out_bias": ["self_attn.o_proj.bias"],
    "attn_qkv": ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
    "attn_out": ["self_attn.o_proj.weight"],
    "mlp": ["mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"],
    "mlp_in": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "mlp_down": ["mlp.down_proj.weight"],
    "mlp_gate": ["mlp.gate_proj.weight"],
    "mlp_updown": ["mlp.up_proj.weight", "mlp.down_proj.weight"],
}
MODEL_TENSORS: Mapping[Role, str] = {
    "embed": "model.embed_tokens.weight",
    "head": "lm_head.weight",
    "final_norm": "model.norm.weight",
}


def tensors_of(spec: DecoderSpec, role: Role, layer: int) -> list[str]:
    """Hugging Face names of the tensors that make up a table, or one layer of it, in the order in which they are
    joined."""
    if layer == MODEL_LAYER:
        return [MODEL_TENSORS["embed" if role == "head" and spec.tied_head else role]]
    names = dict(LAYER_TENSORS)
    if spec.post_norms:  # Gemma: four norms a layer
        names["attn_post_norm"] = ["post_attention_layernorm.weight"]
        names["mlp_norm"] = ["pre_feedforward_layernorm.weight"]
        names["mlp_post_norm"] = ["post_feedforward_layernorm.weight"]
    else:
        names["mlp_norm"] = ["post_attention_layernorm.weight"]
    return [f"model.layers.{layer}.{name}" for name in names[role]]


def expected_shapes(spec: DecoderSpec, role: Role) -> list[tuple[int, ...]]:
    hidden, ff = spec.hidden_size, spec.ff_size
    shapes: Mapping[Role, list[tuple[int, ...]]] = {
        "qkv_bias": [(spec.q_size,), (spec.kv_size,), (spec.kv_size,)],
        "q_norm": [(spec.head_size,)],
        "k_norm": [(spec.head_size,)],
        "attn_qkv": [(spec.q_size, hidden), (spec.kv_size, hidden), (spec.kv_size, hidden)],
        "attn_out": [(hidden, spec.q_size)],
        "mlp": [(ff, hidden), (ff, hidden), (hidden, ff)],
        "mlp_in": [(ff, hidden), (ff, hidden)],
        "mlp_down": [(hidden, ff)],
        "mlp_gate": [(ff, hidden)],
        "mlp_updown": [(ff, hidden), (hidden, ff)],
        "embed": [(spec.vocab_size, hidden)],
        "head": [(spec.vocab_size, hidden)],
    }
    return shapes.get(role, [(hidden,)])


def plan_tables(
    source: TensorSource, codec: str, neuron_order: NeuronOrder | None, choice: LayoutChoice = DENSE
) -> list[Table]:
    """All tables in compute order, each with the element type of its tensors. Raises SourceError for tensors that are
    missing, misshapen or too many.

    Bundles of `bf16-bundles` have no room for exceptions yet: see `capacity.fit_tables`.
    """
    spec = source.decoder
    _check_choice(codec, choice)
    tables = _permutations(spec, neuron_order, choice)
    permutation_of = {table.layer: index for index, table in enumerate(tables)}
    needed: set[str] = set()
    # A head in planes, or compressed, cannot be read by single rows: the embedding then has a table of its own.
    chosen = _choose_codec(source, codec, "embed", MODEL_LAYER, [spec.hidden_size])
    head_apart = not spec.tied_head or chosen != "raw"
    for role, layer, shape in expected_tables(spec, head_apart=head_apart, layout=choice.layout, groups=choice.groups):
        segments = segments_of(spec, choice.layout, role)
        layers = layers_of(spec, role, layer, choice.groups)
        names = [name for place in range(layers) for name in tensors_of(spec, role, layer + place)]
        element = _check_tensors(source, names, expected_shapes(spec, role) * layers)
        needed.update(names)
        permutation = permutation_of.get(layer) if role in ORDERED_ROLES else None
        table_codec = _table_codec(source, codec, role, layer, shape, segments)
        table = _table(role, layer, shape, element, table_codec, permutation)
        if table_codec == "bf16-bundles":
            table = msgspec.structs.replace(table, planes=(Plane(table_codec, bf16_bundle_bytes(segments, 0)),))
        tables.append(msgspec.structs.replace(table, layers=layers, segments=segments))
    _check_used(codec, tables)
    others = source.others(needed)
    if others:
        raise SourceError(
            f"the model has {len(others)} tensors that are no part of a {spec.family} decoder of its configuration: "
            f"{', '.join(others[:5])}{', …' if len(others) > 5 else ''}; without them it would be another model"
        )
    return tables


def _check_choice(codec: str, choice: LayoutChoice) -> None:
    if codec == "zstd" and choice.layout != "dense":
        raise SourceError(
            f"a model of layout {choice.layout} is read bundle by bundle, which zstd, a frame for each extent, does "
            "not allow; leave --codec out, or convert with --layout dense"
        )
    if choice.group < 1 or (choice.group > 1 and choice.layout != "input-channel"):
        raise SourceError(
            f"a group of {choice.group} layers in layout {choice.layout}: expected 1 or more with --layout "
            "input-channel, and none with any other"
        )


def _check_used(codec: str, tables: Sequence[Table]) -> None:
    """An explicit codec that suits nothing is an error. Bundles of rows that planes can hold are coded like planes."""
    twin = {"bf16-planes": "bf16-bundles"}.get(codec, codec)
    used = {plane.codec for table in tables for plane in table.planes}
    if codec != AUTO_CODEC and not used & {codec, twin}:
        matrices = (table for table in tables if table.layout not in ("vector", "permutation"))
        stored = ", ".join(sorted({table.element for table in matrices}))
        raise SourceError(
            f"no matrix of this model can be stored as {codec}: they are {stored}; leave --codec out for what suits "
            "them (see docs/format.md for what a codec needs)"
        )


def _permutations(spec: DecoderSpec, neuron_order: NeuronOrder | None, choice: LayoutChoice) -> list[Table]:
    """One for each layer with an order, and for all layers of a group of which one has one."""
    if neuron_order is None:
        return []
    tables: list[Table] = []
    for first in range(0, spec.layer_count, choice.group):
        layers = range(first, min(first + choice.group, spec.layer_count))
        if any(neuron_order(layer) is not None for layer in layers):
            shape: Shape = ("permutation", 1, spec.ff_size)
            tables += [_table("permutation", layer, shape, "u32", "raw", None) for layer in layers]
    return tables


def _table_codec(
    source: TensorSource, codec: str, role: Role, layer: int, shape: Shape, segments: Sequence[int]
) -> str:
    layout, _, elements = shape
    if segments:
        coded = get_codec("bf16-bundles")
        element = source.element(tensors_of(source.decoder, role, layer)[0])
        fits = codec in (AUTO_CODEC, "bf16-planes") and all(coded.supports(element, size) for size in segments)
        return coded.name if fits else "raw-bundles"
    if layout == "vector" or role == "embed":
        return "raw"
    return _choose_codec(source, codec, role, layer, [elements // 3 if layout == "neuron" else elements])


def _table(role: Role, layer: int, shape: Shape, element: Element, codec: str, permutation: int | None) -> Table:
    layout, count, elements = shape
    bundle_bytes = elements * ELEMENT_BYTES[element]
    return Table(
        role=role,
        layer=layer,
        layout=layout,
        element=element,
        bundle_count=count,
        bundle_elements=elements,
        planes=tuple(Plane(codec, size) for size in get_codec(codec).plane_bytes(element, bundle_bytes)),
        checksum_block_bytes=EMBED_BLOCK_BYTES if role == "embed" else 0,
        permutation=permutation,
    )


def _choose_codec(source: TensorSource, codec: str, role: Role, layer: int, rows: Sequence[int]) -> str:
    """The codec of one table: the one asked for, or `auto`: planes for bf16. `raw` where that does not do: rows that
    planes cannot hold, or weights with more exceptions than planes save (a pruned table)."""
    names = tensors_of(source.decoder, role, layer)
    element = source.element(names[0])
    wanted = ("bf16-planes" if element == "bf16" else "raw") if codec == AUTO_CODEC else codec
    if not all(get_codec(wanted).supports(element, size) for size in rows):
        return "raw"
    if wanted == "bf16-planes" and any(_sample_exceptions(source, name) > EXCEPTION_SHARE_MAX for name in names):
        return "raw"
    return wanted


def _sample_exceptions(source: TensorSource, name: str) -> float:
    rows = source.shape(name)[0]
    places = sorted({(rows - 1) * i // (SAMPLED_ROWS - 1) for i in range(SAMPLED_ROWS)})
    return exception_share(
        np.concatenate([source.rows(name, row, row + 1).reshape(-1) for row in places]).view(np.uint16)
    )


def _check_tensors(source: TensorSource, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Element:
    for name, expected in zip(names, shapes, strict=True):
        got = source.shape(name)
        if got != expected:
            raise SourceError(f"tensor {name} has shape {list(got)}, the configuration makes it {list(expected)}")
    elements = {source.element(name) for name in names}
    if len(elements) > 1:
        raise SourceError(
            f"tensors {', '.join(names)} have different types {sorted(elements)}; they form one table and must have one"
        )
    return elements.pop()
