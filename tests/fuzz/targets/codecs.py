"""Stored bytes that no checksum keeps from a codec: the first byte chooses which, the rest is what was stored."""

import functools

import numpy as np

from tests.contracts.codec import FIRST, TABLE, table_of
from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, bf16_bundle_bytes
from tidemill.storage.codecs.codec import Codec
from tidemill.storage.codecs.registry import CODECS
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Plane, Table

SEGMENTS = (128, 64)
BUNDLES = 5
SPARE = 64


@functools.cache
def tables() -> list[tuple[Codec, Table]]:
    found: list[tuple[Codec, Table]] = []
    for codec in CODECS.values():
        element = "f16" if codec.name.startswith("fp16") else "bf16"
        if codec.name == Bf16BundlesCodec.name:
            found += [(codec, bundle_table(SEGMENTS)), (codec, bundle_table(SEGMENTS[:1]))]
        else:
            found += [(codec, table_of(codec, element, layout)) for layout in ("output-row", "neuron")]  # type: ignore[arg-type]
    return found


def bundle_table(segments: tuple[int, ...]) -> Table:
    """Room for as many exceptions as a bundle has elements."""
    size = bf16_bundle_bytes(segments, sum(segments))
    return Table(
        role="attn_qkv", layer=0, layout="input-channel", element="bf16", bundle_count=1 << 16,
        bundle_elements=sum(segments), planes=(Plane(Bf16BundlesCodec.name, size),), checksum_block_bytes=0,
        segments=segments,
    )  # fmt: skip


@functools.cache
def seeds() -> list[bytes]:
    given: list[bytes] = []
    for choice, (codec, table) in enumerate(tables()):
        bundles = np.random.default_rng(3).integers(0, 256, (BUNDLES, table.bundle_bytes), dtype=np.uint8)
        for plane, part in enumerate(codec.encode(bundles, table)):
            given.append(bytes([choice, plane]) + part.placed_bytes.to_bytes(2, "little") + part.stored.tobytes())
    return given


def check(data: bytes) -> None:
    if len(data) < 5:
        return
    codec, table = tables()[data[0] % len(tables())]
    plane = data[1] % len(table.planes)
    least, most = codec.placed_bytes(plane, table, BUNDLES)
    size = min(max(int.from_bytes(data[2:4], "little"), least), most)
    size -= (size - least) % 4  # a manifest may say no other
    memory = np.full(size + SPARE, 0xA5, np.uint8)
    try:
        codec.decode(plane, memoryview(data[4:]), memory[:size].data)
        codec.seal(memory[:size], table, TABLE, FIRST)  # whoever writes hostile bundles writes right digests
        codec.check(plane, memory[:size].data, table, BUNDLES)
        codec.verify(memory[:size], table, TABLE, FIRST)
        if len(table.planes) == 1:
            codec.join([memory[:size]], table, 0)
        elif plane == 0:
            codec.join_coarse([memory[:size]], table, 0, BUNDLES - 1)
    except CorruptDataError as error:
        assert str(error)
    assert (memory[size:] == 0xA5).all(), "wrote past its buffer"
