"""A manifest of a llama that exists nowhere, for running the real decoder on any bytes. Pure; no shard is behind it."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up
from tidemill.storage.codecs.bf16_bundles import bf16_bundle_bytes
from tidemill.storage.codecs.registry import CODECS
from tidemill.storage.decoder_spec import DecoderSpec, Rope
from tidemill.storage.layout import EXTENT_BYTES, cut_table
from tidemill.storage.manifest import (
    ELEMENT_BYTES,
    FORMAT_VERSION,
    MODEL_LAYER,
    Element,
    Extent,
    Manifest,
    ModelLayout,
    Plane,
    Source,
    Table,
)
from tidemill.storage.manifest_rules import expected_tables
from tidemill.storage.model_layout import segments_of

CHECKSUM = "0" * 16  # nothing is read, so nothing is verified
BUNDLE_EXCEPTIONS = 16  # room for them in each bundle, as real ones have
EXPONENT_BASE = 112  # codes count from 2^-15: no bits make a weight of 2 or more
KINDS: Mapping[str, tuple[Element, str]] = MappingProxyType(
    {
        "bf16": ("bf16", "raw"),
        "f16": ("f16", "raw"),
        "f32": ("f32", "raw"),
        "bf16-planes": ("bf16", "bf16-planes"),
        "fp16-planes": ("f16", "fp16-planes"),
        "bf16-bundles": ("bf16", "bf16-bundles"),
    }
)
ONE_LAYER = DecoderSpec(
    family="llama",
    vocab_size=2048,
    hidden_size=1024,
    layer_count=1,
    head_count=16,
    kv_head_count=8,
    head_size=64,
    ff_size=4096,
    activation="silu",
    norm_eps=1e-5,
    norm_weight_offset=0.0,
    embed_scale=1.0,
    attention_scale=0.125,
    qkv_bias=False,
    out_bias=False,
    qk_norm=False,
    post_norms=False,
    rope=Rope(theta=10000.0),
    local_rope=None,
    windows=(0,),
    tied_head=True,
    max_context=1024,
    bos_token_id=None,
    eos_token_ids=(),
)


def plan_synthetic_model(kind: str, *, weight_bytes: int) -> Manifest:
    """As many layers of 1024 × 4096 as make at least `weight_bytes`, in extents as a conversion cuts them.

    `kind`: an element, or a codec of planes or bundles (whose layout is input-channel). Extents have offsets as if they
    lay one after the other in one shard; vectors are f32, the embedding raw, and so a head that isn't in planes.
    """
    one = _tables(ONE_LAYER, kind)
    layer_bytes = sum(t.bundle_count * sum(p.bundle_bytes for p in t.planes) for t in one if _is_matrix(t))
    layers = max(1, -(-weight_bytes // layer_bytes))
    spec = msgspec.structs.replace(ONE_LAYER, layer_count=layers, windows=(0,) * layers)
    tables = _tables(spec, kind)
    return Manifest(
        format_version=FORMAT_VERSION,
        writer="tune",
        decoder=spec,
        source=Source(kind="synthetic", name="tune", fingerprint="", note=""),
        tables=tuple(tables),
        shards=(),
        extents=tuple(_extents(tables)),
        files=(),
    )


def exception_lists(manifest: Manifest) -> Iterator[slice]:
    """The bytes of each extent behind those of its bundles: all zero is a list of exceptions without any."""
    for extent in manifest.extents:
        plane = manifest.tables[extent.table].planes[extent.plane]
        weights_bytes = (extent.bundle_stop - extent.bundle_start) * plane.bundle_bytes
        if weights_bytes < extent.bytes:
            yield slice(extent.offset + weights_bytes, extent.offset + extent.bytes)


def set_bundles(manifest: Manifest, arena: npt.NDArray[np.uint8]) -> None:
    """Make bundles of whatever lies in the arena: no exceptions, and an exponent base that suits the codes."""
    for extent in manifest.extents:
        table = manifest.tables[extent.table]
        if table.is_self_contained:
            stored = arena[extent.offset : extent.offset + extent.bytes].reshape(-1, table.planes[0].bundle_bytes)
            stored[:, table.bundle_elements * 3 // 2 :] = 0
            stored[:, table.bundle_elements * 3 // 2] = EXPONENT_BASE


def _is_matrix(table: Table) -> bool:
    return table.layer != MODEL_LAYER and table.layout != "vector"


def _tables(spec: DecoderSpec, kind: str) -> list[Table]:
    matrix_element, matrix_codec = KINDS[kind]
    tables: list[Table] = []
    model_layout: ModelLayout = "input-channel" if matrix_codec == "bf16-bundles" else "dense"
    in_planes = matrix_codec.endswith("planes")  # the head is then stored apart, in planes too
    for role, layer, (layout, count, elements) in expected_tables(spec, head_apart=in_planes, layout=model_layout):
        stored: Element = "f32" if layout == "vector" else matrix_element
        is_raw = layout == "vector" or (layer == MODEL_LAYER and role != "head")
        codec = "raw" if is_raw else matrix_codec
        segments = segments_of(spec, model_layout, role) if codec == "bf16-bundles" else ()
        planes: Sequence[int] = CODECS[codec].plane_bytes(stored, elements * ELEMENT_BYTES[stored])
        if segments:
            planes = (bf16_bundle_bytes(segments, BUNDLE_EXCEPTIONS),)
        tables.append(
            Table(
                role=role,
                layer=layer,
                layout=layout,
                element=stored,
                bundle_count=count,
                bundle_elements=elements,
                planes=tuple(Plane(codec, size) for size in planes),
                checksum_block_bytes=0,
                segments=segments,
            )
        )
    return tables


def _extents(tables: list[Table]) -> list[Extent]:
    extents: list[Extent] = []
    offset = 0
    for index, table in enumerate(tables):
        for start, stop in cut_table(table, EXTENT_BYTES):
            for plane, described in enumerate(table.planes):
                size, _ = CODECS[described.codec].placed_bytes(plane, table, stop - start)
                extents.append(
                    Extent(
                        table=index,
                        plane=plane,
                        shard=0,
                        offset=offset,
                        stored_bytes=size,
                        bytes=size,
                        bundle_start=start,
                        bundle_stop=stop,
                        checksums=(CHECKSUM,),
                        exponent_base=EXPONENT_BASE if described.codec == "bf16-planes" and plane == 0 else 0,
                    )
                )
                offset += align_up(size)
    return extents
