"""Trains a layer's neuron predictor in closed form, from sums over the text: nothing of the text itself is kept.

Reduced-rank ridge regression (Izenman 1975): the best linear map of the MLP's input to what each neuron will weigh,
then the best approximation of its predictions by a given rank.
"""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.low_rank import LowRankPredictor

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
RIDGE = 1e-3  # of the inputs' mean variance


def moments_bytes(hidden_size: int, ff_size: int) -> int:
    return 4 * hidden_size * (hidden_size + ff_size) + 8 * (hidden_size + ff_size)


def weight_of(products: F32) -> F32:
    """What is predicted of act(gate)·up: a neuron's magnitude, roots taken so that the largest don't decide it all."""
    return np.sqrt(np.abs(products))


class Moments:
    """Sums of x xᵀ, x yᵀ, x and y over positions, for inputs x [hidden] and targets y [ff]."""

    def __init__(self, hidden_size: int, ff_size: int) -> None:
        self.count = 0
        self._inputs: F32 = np.zeros((hidden_size, hidden_size), np.float32)
        self._crossed: F32 = np.zeros((hidden_size, ff_size), np.float32)
        self._input_sum: F64 = np.zeros(hidden_size)
        self._target_sum: F64 = np.zeros(ff_size)

    def add(self, x: F32, y: F32) -> None:
        """x [B, hidden], y [B, ff]."""
        self.count += x.shape[0]
        self._inputs += x.T @ x
        self._crossed += x.T @ y
        self._input_sum += x.sum(axis=0, dtype=np.float64)
        self._target_sum += y.sum(axis=0, dtype=np.float64)

    def fit(self, rank: int) -> LowRankPredictor:
        """Of at least one position. Raises ValueError for a rank above the input's size."""
        hidden = len(self._input_sum)
        if not 1 <= rank <= hidden:
            raise ValueError(f"rank is {rank}, accepted: 1 to {hidden}, the size of the input")
        x_mean, y_mean = self._input_sum / self.count, self._target_sum / self.count
        inputs = self._inputs.astype(np.float64) / self.count - np.outer(x_mean, x_mean)
        crossed = self._crossed.astype(np.float64) / self.count - np.outer(x_mean, y_mean)
        inputs[np.diag_indices(hidden)] += RIDGE * np.trace(inputs) / hidden + np.finfo(np.float32).tiny
        lower = np.linalg.cholesky(inputs)
        whitened = np.linalg.solve(lower, crossed)  # predictions are orthonormal inputs times this
        values, vectors = np.linalg.eigh(whitened @ whitened.T)
        kept = vectors[:, np.argsort(-values, kind="stable")[:rank]]
        inward = np.linalg.solve(lower.T, kept)
        outward = kept.T @ whitened
        bias = y_mean - (x_mean @ inward) @ outward
        return LowRankPredictor(*(part.astype(np.float32) for part in (inward, outward, bias)))
