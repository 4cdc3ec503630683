"""A table of neurons in planes, in an arena: for tests of the kernels over planes."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.contracts.codec import table_of
from tidemill.actors.compute.kernels.elements import STORED_DTYPES, widen_array
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, JOINED_ROWS
from tidemill.storage.codecs.codec import Codec
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.manifest import Element, Table

SIZE, NEURONS = 192, 23
EDGES = [0, 9, 10, NEURONS]  # of extents, in neurons
BEHIND = 4096  # bytes of an arena behind the last extent
PLANES_KINDS = ("bf16", "bf16 with many exceptions", "f16")


class Planes(NamedTuple):
    """Extents of neurons, which are rows in threes as well; and the same weights whole."""

    arena: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    bases: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]  # of the extents, one pair each
    whole: npt.NDArray[np.generic]
    joined: npt.NDArray[np.generic]
    coarse: npt.NDArray[np.float64]  # [NEURONS, 3 · SIZE]; what plane 0 alone should be taken for


def make_planes(kind: str) -> Planes:
    """One of PLANES_KINDS."""
    values = np.random.default_rng(1).standard_normal((NEURONS, 3 * SIZE)).astype(np.float32)
    if kind == "f16":
        return _encode("fp16-planes", "f16", values.astype(np.float16).view(np.uint16))
    if kind != "bf16":  # runs of zeros, whole blocks, tiny and huge ones
        values[np.random.default_rng(3).random(values.shape) < 0.05] = 0.0
        values[:, :100] *= np.float32(1e-20)
        values[3] *= np.float32(1e8)
        values[5, 64:128] = -0.0
    return _encode("bf16-planes", "bf16", (values.view(np.uint32) >> 16).astype(np.uint16))


def _encode(codec_name: str, element: Element, weights: npt.NDArray[np.uint16]) -> Planes:
    codec = get_codec(codec_name)
    table = table_of(codec, element, "neuron", row=SIZE)
    coarse: list[npt.NDArray[np.float64]] = []
    parts: list[npt.NDArray[np.uint8]] = []
    bases: list[int] = []
    for start, stop in itertools.pairwise(EDGES):
        encoded = codec.encode(weights[start:stop].view(np.uint8), table)
        parts += [part.stored for part in encoded]
        bases += [part.exponent_base for part in encoded]
        coarse.append(_take_middle(codec, table, encoded[0].stored, bases[-2], stop - start))
    sizes = [-(-len(part) // 64) * 64 for part in parts]
    arena = np.full(sum(sizes) + BEHIND, 0xA5, np.uint8)
    offsets = np.cumsum([0, *sizes[:-1]])
    for offset, part in zip(offsets, parts, strict=True):
        arena[offset : offset + len(part)] = part
    joined = np.zeros((8, max(JOINED_ROWS, 3 * JOINED_NEURONS) * SIZE // 2), np.uint32)
    whole = np.concatenate([np.zeros(7, np.uint16), weights.reshape(-1)]).view(STORED_DTYPES[element])
    kind = np.uint32 if element == "bf16" else np.int16
    return Planes(arena, offsets, np.array(bases), np.array(EDGES), whole, joined.view(kind), np.concatenate(coarse))


def _take_middle(
    codec: Codec, table: Table, plane_0: npt.NDArray[np.uint8], base: int, bundles: int
) -> npt.NDArray[np.float64]:
    """What the whole weights would be if plane 1 were all middles; with codes of zero for zeros."""
    if table.element == "f16":
        plane_1 = np.full(len(plane_0), 0x80, np.uint8)
    else:
        no_exceptions = np.zeros(4 * (3 * bundles + 1), np.uint8)
        plane_1 = np.concatenate([np.full(len(plane_0) // 2, 0x88, np.uint8), no_exceptions])
    values = widen_array(codec.join([plane_0, plane_1], table, base).reshape(-1), table.element).astype(np.float64)
    if table.element == "bf16":
        values[np.abs(values) == (1 + 8 / 128) * 2.0 ** (base - 127)] = 0.0
    return values.reshape(bundles, -1)
