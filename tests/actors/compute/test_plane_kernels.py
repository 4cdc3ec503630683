"""Kernels over planes have the bits of the kernels over whole weights, for any batch, extents and threads."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.kernels import close
from tests.fakes.plane_tables import NEURONS, PLANES_KINDS, SIZE, Planes, make_planes
from tidemill.actors.compute.kernels import linear, plane_linear
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, MLP_PARTS, NEURON_BLOCK

F32 = npt.NDArray[np.float32]
BATCH = 33
BATCHES = [*range(1, 18), 32, 33]


@pytest.fixture(params=PLANES_KINDS)
def planes(request: pytest.FixtureRequest) -> Planes:
    return make_planes(request.param)


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
