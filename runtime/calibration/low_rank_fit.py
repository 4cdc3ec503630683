"""Trains low-rank predictors in closed form, from sums over the text: nothing of the text itself is kept.

Reduced-rank ridge regression (Izenman 1975): the best linear map W of inputs to targets, both centred, then the best
approximation of its predictions by a given rank r.

    W   = (XᵀX + λ I)⁻¹ XᵀY                                    X [positions, inputs], Y [positions, targets]
    W_r = L⁻ᵀ U_r U_rᵀ LᵀW,  XᵀX + λ I = L Lᵀ,  LᵀW = U S Vᵀ    λ: `ridge` of the inputs' mean variance
"""

import numpy as np
import numpy.typing as npt

from tidemill.actors.low_rank import LowRankPredictor

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
RIDGE = 1e-3  # of neuron predictors


def moments_bytes(inputs: int, targets: int) -> int:
    return 4 * inputs * (inputs + targets) + 8 * (inputs + targets)


def weight_of(products: F32) -> F32:
    """What is predicted of act(gate)·up: a neuron's magnitude, roots taken so that the largest don't decide it all."""
    return np.sqrt(np.abs(products))


class Moments:
    """Sums of x xᵀ, x yᵀ, x and y over positions."""

    def __init__(self, inputs: int, targets: int) -> None:
        self.count = 0
        self._inputs: F32 = np.zeros((inputs, inputs), np.float32)
        self._crossed: F32 = np.zeros((inputs, targets), np.float32)
        self._input_sum: F64 = np.zeros(inputs)
        self._target_sum: F64 = np.zeros(targets)

    def add(self, x: F32, y: F32) -> None:
        """x [B, inputs], y [B, targets]."""
        self.count += x.shape[0]
        self._inputs += x.T @ x
        self._crossed += x.T @ y
        self._input_sum += x.sum(axis=0, dtype=np.float64)
        self._target_sum += y.sum(axis=0, dtype=np.float64)

    def fit(self, rank: int, ridge: float) -> LowRankPredictor:
        """Raises ValueError for a rank that the inputs do not have, a ridge that is not above 0 (the inputs need not be
        independent), and when nothing was added."""
        size = len(self._input_sum)
        if not 1 <= rank <= size:
            raise ValueError(f"rank is {rank}, accepted: 1 to {size}, the size of the input")
        if not ridge > 0:
            raise ValueError(f"ridge is {ridge}, accepted: more than 0")
        if not self.count:
            raise ValueError("nothing was added to fit: record activations first")
        x_mean, y_mean = self._input_sum / self.count, self._target_sum / self.count
        inputs = self._inputs.astype(np.float64) / self.count - np.outer(x_mean, x_mean)
        crossed = self._crossed.astype(np.float64) / self.count - np.outer(x_mean, y_mean)
        inputs[np.diag_indices(size)] += ridge * np.trace(inputs) / size + np.finfo(np.float32).tiny
        lower = np.linalg.cholesky(inputs)
        whitened = np.linalg.solve(lower, crossed)  # predictions are orthonormal inputs times this
        values, vectors = np.linalg.eigh(whitened @ whitened.T)
        kept = vectors[:, np.argsort(-values, kind="stable")[:rank]]
        inward = np.linalg.solve(lower.T, kept)
        outward = kept.T @ whitened
        bias = y_mean - (x_mean @ inward) @ outward
        return LowRankPredictor(*(part.astype(np.float32) for part in (inward, outward, bias)))
