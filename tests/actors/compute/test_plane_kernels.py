"""Kernels over planes have the bits of the kernels over whole weights, for any batch, extents and threads."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.codec import table_of
from tests.contracts.kernels import close
from tidemill.actors.compute.kernels import linear, plane_linear
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, JOINED_ROWS, MLP_PARTS, NEURON_BLOCK
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.manifest import Element

F32 = npt.NDArray[np.float32]
SIZE, NEURONS, BATCH = 192, 23, 33
BATCHES = [1, 2, 3, 4, 7, 8, 16, 32, 33]
EDGES = [0, 9, 10, NEURONS]  # of extents, in neurons
BEHIND = 4096  # bytes of an arena behind the last extent


class Planes(NamedTuple):
    """Extents of neurons, which are rows in threes as well; and the same weights whole."""

    arena: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    bases: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]  # of the extents, one pair each
    whole: npt.NDArray[np.generic]
    joined: npt.NDArray[np.generic]


def make(codec_name: str, element: Element, weights: npt.NDArray[np.uint16]) -> Planes:
    codec = get_codec(codec_name)
    table = table_of(codec, element, "neuron", row=SIZE)
    parts: list[npt.NDArray[np.uint8]] = []
    bases: list[int] = []
    for start, stop in itertools.pairwise(EDGES):
        encoded = codec.encode(weights[start:stop].view(np.uint8), table)
        parts += [part.stored for part in encoded]
        bases += [part.exponent_base for part in encoded]
    sizes = [-(-len(part) // 64) * 64 for part in parts]
    arena = np.full(sum(sizes) + BEHIND, 0xA5, np.uint8)
    offsets = np.cumsum([0, *sizes[:-1]])
    for offset, part in zip(offsets, parts, strict=True):
        arena[offset : offset + len(part)] = part
    joined = np.zeros((8, max(JOINED_ROWS, 3 * JOINED_NEURONS) * SIZE // 2), np.uint32)
    whole = np.concatenate([np.zeros(7, np.uint16), weights.reshape(-1)]).view(STORED_DTYPES[element])
    kind = np.uint32 if element == "bf16" else np.int16
    return Planes(arena, offsets, np.array(bases), np.array(EDGES), whole, joined.view(kind))


@pytest.fixture(params=["bf16", "bf16 with many exceptions", "f16"])
def planes(request: pytest.FixtureRequest) -> Planes:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((NEURONS, 3 * SIZE)).astype(np.float32)
    if request.param == "f16":
        return make("fp16-planes", "f16", values.astype(np.float16).view(np.uint16))
    if request.param != "bf16":  # runs of zeros, whole blocks, tiny and huge ones
        values[rng.random(values.shape) < 0.05] = 0.0
        values[:, :100] *= np.float32(1e-20)
        values[3] *= np.float32(1e8)
        values[5, 64:128] = -0.0
    return make("bf16-planes", "bf16", (values.view(np.uint32) >> 16).astype(np.uint16))


@pytest.fixture
def x() -> F32:
    return np.random.default_rng(2).standard_normal((BATCH, SIZE)).astype(np.float32)


def row_dot(planes: Planes, x: F32, threads: int, runs: list[tuple[int, int]]) -> F32:
    starts, stops = np.repeat(3 * planes.edges[:-1], 2), np.repeat(3 * planes.edges[1:], 2)
    out = np.full((len(x), 3 * NEURONS), np.nan, np.float32)
    for first, last in runs:
        plane_linear.row_dot_planes(
            planes.arena, planes.arena.view(np.uint32), planes.offsets, planes.bases, starts, stops, 2 * first,
            2 * last, x, planes.joined, out, threads,
        )  # fmt: skip
    return out


def whole_row_dot(planes: Planes, x: F32) -> F32:
    out = np.full((len(x), 3 * NEURONS), np.nan, np.float32)
    starts, stops = np.array([0]), np.array([3 * NEURONS])
    linear.row_dot(planes.whole, np.array([7 * planes.whole.itemsize]), starts, stops, 0, 1, x, out, 1)
    return out


def mlp(planes: Planes, x: F32, runs: list[tuple[int, int]]) -> F32:
    starts, stops = np.repeat(planes.edges[:-1], 2), np.repeat(planes.edges[1:], 2)
    sums = np.zeros((MLP_PARTS, BATCH + 3, SIZE), np.float32)
    neurons = np.zeros((MLP_PARTS, 3 * max(NEURON_BLOCK, JOINED_NEURONS) * (BATCH + 3)), np.float32)
    for first, last in runs:
        plane_linear.mlp_planes(
            planes.arena, planes.arena.view(np.uint32), planes.offsets, planes.bases, starts, stops, 2 * first,
            2 * last, x, planes.joined, neurons, sums, False,
        )  # fmt: skip
    return close(sums, len(x))


def whole_mlp(planes: Planes, x: F32) -> F32:
    sums = np.zeros((MLP_PARTS, BATCH + 3, SIZE), np.float32)
    neurons = np.zeros((MLP_PARTS, 3 * NEURON_BLOCK * (BATCH + 3)), np.float32)
    offsets = (7 + planes.edges * 3 * SIZE) * planes.whole.itemsize
    linear.mlp(planes.whole, offsets, planes.edges[:-1], planes.edges[1:], 0, 3, x, neurons, sums, False)
    return close(sums, len(x))


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES)
def test_rows_have_the_bits_of_whole_rows(planes: Planes, x: F32, batch: int) -> None:
    expected = whole_row_dot(planes, x[:batch])
    assert np.array_equal(row_dot(planes, x[:batch], 1, [(0, 3)]), expected, equal_nan=True)
    assert not np.isnan(expected).any()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
def test_rows_do_not_depend_on_runs_and_threads(planes: Planes, x: F32, batch: int) -> None:
    expected = row_dot(planes, x[:batch], 1, [(0, 3)])
    for threads in (1, 2, 3):
        for runs in ([(0, 1), (1, 2), (2, 3)], [(0, 2), (2, 3)]):
            assert np.array_equal(row_dot(planes, x[:batch], threads, runs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES)
def test_the_mlp_has_the_bits_of_the_one_over_whole_neurons(planes: Planes, x: F32, batch: int) -> None:
    expected = whole_mlp(planes, x[:batch])
    assert np.isfinite(expected).all()
    for runs in ([(0, 3)], [(0, 1), (1, 3)]):
        assert np.array_equal(mlp(planes, x[:batch], runs), expected)
