"""What every element type's kernels must do: equal bits in any batch, grouping and thread count, and be near
float64."""

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.actors.compute.kernels import linear, norm
from tidemill.actors.compute.kernels.elements import STORED_DTYPES, widen_array
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS, NEURON_BLOCK

U = 2.0**-24  # unit roundoff of float32
ROWS, SIZE, BATCH = 23, 96, 33
BATCHES = [*range(1, 18), 32, 33]
F32 = npt.NDArray[np.float32]


def close(sums: F32, batch: int) -> F32:
    """The MLP's output out of its partial sums, which are zero afterwards."""
    out, residual, normed = (np.zeros((batch, sums.shape[2]), np.float32) for _ in range(3))
    nothing = np.zeros(0, np.float32)
    norm.close_branch(MLP_PARTS, sums, out, nothing, nothing, residual, nothing, normed, np.float32(1e-6))
    assert not sums.any()
    return out


class KernelContract:
    element: str

    @pytest.fixture
    def arena(self) -> npt.NDArray[np.generic]:
        """Rows of weights behind a few elements that belong to nobody."""
        values = np.random.default_rng(1).standard_normal(7 + 3 * ROWS * SIZE).astype(np.float32)
        if self.element == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        if self.element == "f16":
            return values.astype(np.float16).view(np.int16)
        return values

    @pytest.fixture
    def x(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(2).standard_normal((BATCH, SIZE)).astype(np.float32)

    def rows(self, arena: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        return widen_array(arena.view(np.uint8), self.element)[7:].reshape(-1, SIZE).astype(np.float64)

    def row_dot(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32], cuts: list[int], threads: int
    ) -> npt.NDArray[np.float32]:
        """The rows in extents cut at `cuts`."""
        edges = np.array(cuts, np.int64)
        out = np.zeros((len(x), ROWS), np.float32)
        offsets = (7 + edges * SIZE) * arena.itemsize
        linear.row_dot(arena, offsets, edges[:-1], edges[1:], 0, len(cuts) - 1, x, out, threads)
        return out

    def mlp(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32], runs: list[list[int]]
    ) -> npt.NDArray[np.float32]:
        """Neurons in three extents, handed over in the given runs of extents."""
        edges = np.array([0, 9, 10, ROWS], np.int64)
        sums = np.zeros((MLP_PARTS, BATCH + 3, SIZE), np.float32)
        neurons = np.zeros((MLP_PARTS, 3 * NEURON_BLOCK * (BATCH + 3)), np.float32)
        offsets = (7 + edges * 3 * SIZE) * arena.itemsize
        for run in runs:
            linear.mlp(arena, offsets, edges[:-1], edges[1:], run[0], run[-1] + 1, x, neurons, sums, False)
        return close(sums, len(x))

    def test_the_array_type_names_the_element(self) -> None:
        assert self.element in STORED_DTYPES

    def test_row_dot_is_near_float64(self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32]) -> None:
        rows = self.rows(arena)[:ROWS]
        got = self.row_dot(arena, x, [0, ROWS], 1)
        # |error| <= γ_K Σ|w·x| for any order of summation (Higham, Accuracy and Stability, section 3.1)
        bound = SIZE * U / (1 - SIZE * U) * (np.abs(x.astype(np.float64)) @ np.abs(rows).T)
        assert np.all(np.abs(got - x.astype(np.float64) @ rows.T) <= bound)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_row_dot_of_a_batch_has_the_bits_of_single_rows(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32], batch: int
    ) -> None:
        single = np.concatenate([self.row_dot(arena, x[i : i + 1], [0, ROWS], 1) for i in range(batch)])
        assert np.array_equal(self.row_dot(arena, x[:batch], [0, ROWS], 1), single)

    def test_row_dot_does_not_depend_on_extents_and_threads(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32]
    ) -> None:
        expected = self.row_dot(arena, x, [0, ROWS], 1)
        for cuts in ([0, 1, ROWS], [0, 5, 6, 7, ROWS], [0, 22, ROWS]):
            for threads in (1, 2):
                assert np.array_equal(self.row_dot(arena, x, cuts, threads), expected)

    def test_mlp_is_near_float64(self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32]) -> None:
        gate, up, down = self.rows(arena).reshape(ROWS, 3, SIZE).transpose(1, 0, 2)
        wide = x.astype(np.float64)
        hidden = wide @ gate.T / (1 + np.exp(-(wide @ gate.T))) * (wide @ up.T)
        magnitude = (np.abs(wide) @ np.abs(gate).T + 1) * (np.abs(wide) @ np.abs(up).T) @ np.abs(down)
        # two dot products of SIZE, an activation of a few roundings, a sum of ROWS terms
        bound = (2 * SIZE + ROWS + 16) * U * 2 * magnitude
        assert np.all(np.abs(self.mlp(arena, x, [[0, 1, 2]]) - hidden @ down) <= bound)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_mlp_of_a_batch_has_the_bits_of_single_rows(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32], batch: int
    ) -> None:
        single = np.concatenate([self.mlp(arena, x[i : i + 1], [[0, 1, 2]]) for i in range(batch)])
        assert np.array_equal(self.mlp(arena, x[:batch], [[0, 1, 2]]), single)

    def test_mlp_does_not_depend_on_ready_runs(
        self, arena: npt.NDArray[np.generic], x: npt.NDArray[np.float32]
    ) -> None:
        expected = self.mlp(arena, x, [[0, 1, 2]])
        for runs in ([[0], [1], [2]], [[0, 1], [2]], [[0], [1, 2]]):
            assert np.array_equal(self.mlp(arena, x, runs), expected)
