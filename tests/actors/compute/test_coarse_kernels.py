"""Kernels over plane 0 compute with the middle of what plane 1 could add, for any extents and threads."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.kernels import U, close
from tests.fakes.plane_tables import NEURONS, PLANES_KINDS, SIZE, Planes, make_planes
from tidemill.actors.compute.kernels import coarse_linear
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS

F32 = npt.NDArray[np.float32]
CHUNK = 3


@pytest.fixture(params=PLANES_KINDS)
def planes(request: pytest.FixtureRequest) -> Planes:
    return make_planes(request.param)


@pytest.fixture
def x() -> F32:
    return np.random.default_rng(2).standard_normal((1, SIZE)).astype(np.float32)


def arena_of(planes: Planes) -> coarse_linear.Coarse:
    return planes.arena.view(np.int8) if planes.whole.dtype == np.int16 else planes.arena


def row_dot(planes: Planes, x: F32, threads: int, runs: list[tuple[int, int]]) -> F32:
    starts, stops = np.repeat(3 * planes.edges[:-1], 2), np.repeat(3 * planes.edges[1:], 2)
    out = np.full((1, 3 * NEURONS), np.nan, np.float32)
    for first, last in runs:
        coarse_linear.row_dot_coarse(
            arena_of(planes), planes.offsets, planes.bases, starts, stops, 2 * first, 2 * last, x, out, threads
        )
    return out


def mlp(planes: Planes, x: F32, runs: list[tuple[int, int]]) -> F32:
    starts, stops = np.repeat(planes.edges[:-1], 2), np.repeat(planes.edges[1:], 2)
    sums, neurons = np.zeros((MLP_PARTS, CHUNK, SIZE), np.float32), np.zeros((MLP_PARTS, 12), np.float32)
    for first, last in runs:
        coarse_linear.mlp_coarse(
            arena_of(planes), planes.offsets, planes.bases, starts, stops, 2 * first, 2 * last, x, neurons, sums, False
        )
    return close(sums, 1)


@pytest.mark.slow
def test_rows_are_within_rounding_of_the_middles(planes: Planes, x: F32) -> None:
    weights = planes.coarse.reshape(-1, SIZE)
    error = np.abs(row_dot(planes, x, 1, [(0, 3)])[0] - weights @ x[0].astype(np.float64))
    assert np.all(error <= SIZE * U * (np.abs(weights) @ np.abs(x[0])))


@pytest.mark.slow
def test_plane_1_is_not_read(planes: Planes, x: F32) -> None:
    expected = row_dot(planes, x, 1, [(0, 3)]), mlp(planes, x, [(0, 3)])
    for start, stop in zip(planes.offsets[1::2], [*planes.offsets[2::2], len(planes.arena)], strict=True):
        planes.arena[start:stop] = 0xFF
    assert np.array_equal(row_dot(planes, x, 1, [(0, 3)]), expected[0])
    assert np.array_equal(mlp(planes, x, [(0, 3)]), expected[1])


@pytest.mark.slow
def test_rows_do_not_depend_on_runs_and_threads(planes: Planes, x: F32) -> None:
    expected = row_dot(planes, x, 1, [(0, 3)])
    for threads in (1, 2, 3):
        for runs in ([(0, 1), (1, 2), (2, 3)], [(0, 2), (2, 3)]):
            assert np.array_equal(row_dot(planes, x, threads, runs), expected)


@pytest.mark.slow
def test_the_mlp_is_within_rounding_of_the_middles(planes: Planes, x: F32) -> None:
    gates, ups, downs = (planes.coarse[:, i * SIZE : (i + 1) * SIZE] for i in range(3))
    # An error of a gate or up by its own rounding moves the sums by as much as its neuron's share, and silu's slope
    # is below 1.1; beside them, what adding the neurons up rounds.
    gate, up = gates @ x[0], ups @ x[0]
    sizes = np.abs(gates) @ np.abs(x[0]), np.abs(ups) @ np.abs(x[0])
    with np.errstate(over="ignore"):  # of huge gates; what it should be
        activated = gate / (1 + np.exp(-gate))
    expected = (activated * up) @ downs
    moved = SIZE * U * (1.1 * sizes[0] * (np.abs(up) + SIZE * U * sizes[1]) + np.abs(activated) * sizes[1])
    bound = moved @ np.abs(downs) + (NEURONS + 8) * U * (np.abs(activated * up) @ np.abs(downs))
    for runs in ([(0, 3)], [(0, 1), (1, 3)]):
        assert np.all(np.abs(mlp(planes, x, runs)[0] - expected) <= bound)


@pytest.mark.slow
def test_the_mlp_does_not_depend_on_runs(planes: Planes, x: F32) -> None:
    assert np.array_equal(mlp(planes, x, [(0, 3)]), mlp(planes, x, [(0, 1), (1, 2), (2, 3)]))
