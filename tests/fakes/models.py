"""Small synthetic models: a decoder description, its tables in compute order, and seeded weights for them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.decoder_spec import DecoderSpec, Rope
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import MODEL_LAYER, Element, Manifest, Plane, Role, Source, Table
from tidemill.storage.model_writer import write_model

TINY = DecoderSpec(
    family="llama",
    vocab_size=96,
    hidden_size=64,
    layer_count=4,
    head_count=4,
    kv_head_count=2,
    head_size=16,
    ff_size=80,
    activation="silu",
    norm_eps=1e-5,
    norm_weight_offset=0.0,
    embed_scale=1.0,
    attention_scale=0.25,
    qkv_bias=False,
    out_bias=False,
    qk_norm=False,
    post_norms=False,
    rope=Rope(theta=10000.0),
    local_rope=None,
    windows=(0, 0, 0, 0),
    tied_head=True,
    max_context=512,
    bos_token_id=1,
    eos_token_ids=(2,),
)


def tables_of(
    spec: DecoderSpec, *, codec: str = "raw", block_bytes: int = 4096, raw: tuple[Role, ...] = ()
) -> list[Table]:
    """Every table of a bias-free llama-like decoder, bf16 (f16 for planes of it), in compute order."""
    element: Element = "f16" if codec == "fp16-planes" else "bf16"
    apart = not spec.tied_head or codec != "raw"

    def table(role: Role, layer: int, layout: str, count: int, elements: int) -> Table:
        matrix_codec = codec if layout != "vector" and (role != "embed" or not apart) and role not in raw else "raw"
        return Table(
            role=role,
            layer=layer,
            layout=layout,  # type: ignore[arg-type]
            element=element,
            bundle_count=count,
            bundle_elements=elements,
            planes=tuple(
                Plane(matrix_codec, size) for size in get_codec(matrix_codec).plane_bytes(element, elements * 2)
            ),
            checksum_block_bytes=block_bytes if role == "embed" else 0,
        )

    hidden = spec.hidden_size
    layers = range(spec.layer_count)
    vectors = [table(role, layer, "vector", 1, hidden) for layer in layers for role in ("attn_norm", "mlp_norm")]
    vectors.append(table("final_norm", MODEL_LAYER, "vector", 1, hidden))
    matrices: list[Table] = []
    for layer in layers:
        matrices.append(table("attn_qkv", layer, "output-row", spec.qkv_size, hidden))
        matrices.append(table("attn_out", layer, "output-row", hidden, spec.q_size))
        matrices.append(table("mlp", layer, "neuron", spec.ff_size, 3 * hidden))
    embed = table("embed", MODEL_LAYER, "output-row", spec.vocab_size, hidden)
    if not apart:
        return [*vectors, *matrices, embed]
    return [*vectors, embed, *matrices, table("head", MODEL_LAYER, "output-row", spec.vocab_size, hidden)]


def random_bundles(
    tables: list[Table], seed: int, *, tied: bool = True
) -> Callable[[TableId, int, int], npt.NDArray[np.uint8]]:
    """Seeded weights of sizes that make greedy tokens vary: a wrong bit early becomes another token."""
    stored: list[npt.NDArray[np.uint8]] = []
    for table in tables:
        role = "embed" if table.role == "head" and tied else table.role
        rng = np.random.default_rng([seed, table.layer + 1, *role.encode()])  # whatever other tables there are
        scale = 0.3 if role == "embed" else 0.5
        values = rng.standard_normal((table.bundle_count, table.bundle_elements)).astype(np.float32) * scale
        if table.layout == "vector":
            values = 1.0 + 0.1 * values
        if table.element == "f16":
            stored.append(values.astype(np.float16).view(np.uint8))
        else:
            stored.append((values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))

    def read_bundles(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        return stored[table][start:stop]

    return read_bundles


def tokenizer_json(vocab_size: int) -> bytes:
    """One token per word w0, w1, …"""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab_size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def write_tiny_model(
    directory: Path,
    *,
    seed: int = 0,
    tied: bool = True,
    codec: str = "raw",
    extent_bytes: int = 4096,
    layers: int = 4,
    vocab_size: int = 96,
    tokenizer: bytes | None = None,
    raw: tuple[Role, ...] = (),
) -> Manifest:
    """A model of, by default, 4 layers and about 400 KB, in some hundred extents. `raw`: roles that `codec` is not
    for."""
    spec = msgspec.structs.replace(
        TINY, tied_head=tied, layer_count=layers, windows=(0,) * layers, vocab_size=vocab_size
    )
    tables = tables_of(spec, codec=codec, raw=raw)
    return write_model(
        directory,
        decoder=spec,
        source=Source(kind="synthetic", name="tiny", fingerprint=f"seed-{seed}", note=""),
        tables=tables,
        read_bundles=random_bundles(tables, seed, tied=tied),
        files={"tokenizer.json": tokenizer or tokenizer_json(spec.vocab_size)},
        extent_bytes=extent_bytes,
        on_bytes=lambda _: None,
    )
