"""Stored bytes that no checksum keeps from a codec: the first byte chooses which, the rest is what was stored."""

import functools

import numpy as np

from tests.contracts.codec import FIRST, TABLE, table_of
from tidemill.storage.codecs.codec import Codec
from tidemill.storage.codecs.registry import CODECS
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Table

BUNDLES = 5
SPARE = 64


@functools.cache
def tables() -> list[tuple[Codec, Table]]:
    found: list[tuple[Codec, Table]] = []
    for codec in CODECS.values():
        element = "f16" if codec.name.startswith("fp16") else "bf16"
        if not codec.name.endswith("-bundles"):  # whose rows come with a decoder's shapes
            found += [(codec, table_of(codec, element, layout)) for layout in ("output-row", "neuron")]  # type: ignore[arg-type]
    return found


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
        codec.check(plane, memory[:size].data, table, BUNDLES)
        codec.verify(memory[:size], table, TABLE, FIRST)
        if len(table.planes) == 1:
            codec.join([memory[:size]], table, 0)
        elif plane == 0:
            codec.join_coarse([memory[:size]], table, 0, BUNDLES - 1)
    except CorruptDataError as error:
        assert str(error)
    assert (memory[size:] == 0xA5).all(), "wrote past its buffer"
