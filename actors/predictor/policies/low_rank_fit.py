"""Reduced-rank ridge regression over recorded activations: trains what low_rank.py and gated_low_rank.py predict with.

    W   = argmin |X W - Y|² + λ |W|²  =  (XᵀX + λ I)⁻¹ XᵀY        X [positions, features + 1], Y [positions, outputs]
    W_r = the best of rank r, in the norm of X:  XᵀX + λ I = L Lᵀ,  LᵀW = U S Vᵀ,  W_r = L⁻ᵀ U_r S_r V_rᵀ

(Izenman 1975). Positions are added in pieces; only the two products are kept, so memory doesn't grow with the text.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.actors.predictor.policies.policy import F32

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LowRankMap:
    """y = ([x, 1] @ inner) @ outer.  inner [features + 1, rank], outer [rank, outputs]."""

    inner: F32
    outer: F32

    def apply(self, features: F32) -> F32:
        """[features] → [outputs]"""
        hidden: F32 = features @ self.inner[:-1] + self.inner[-1]
        result: F32 = hidden @ self.outer
        return result

    @property
    def stored_bytes(self) -> int:
        return self.inner.nbytes + self.outer.nbytes


class LowRankFit:
    """Sums over positions. `ridge` is relative to the mean square of the features."""

    def __init__(self, features: int, outputs: int, ridge: float) -> None:
        """Raises ValueError for a ridge that isn't above 0: without it the products need not be invertible."""
        if not ridge > 0:
            raise ValueError(f"ridge is {ridge}, expected more than 0")
        self._ridge = ridge
        self._square: F64 = np.zeros((features + 1, features + 1))
        self._cross: F64 = np.zeros((features + 1, outputs))

    def add(self, features: F32, outputs: F32) -> None:
        """features [positions, features], outputs [positions, outputs]"""
        wide = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
        self._square += wide.T @ wide
        self._cross += wide.T @ outputs

    def solve(self, rank: int) -> LowRankMap:
        """Raises ValueError for a rank out of range or when nothing was added."""
        size, outputs = self._cross.shape
        if not 1 <= rank <= min(size, outputs):
            raise ValueError(f"rank is {rank}, expected 1 to {min(size, outputs)}")
        scale = float(np.trace(self._square)) / size
        if scale == 0:
            raise ValueError("nothing was added to fit: record activations first")
        lower = np.linalg.cholesky(self._square + self._ridge * scale * np.eye(size))
        whitened = np.linalg.solve(lower, self._cross)  # LᵀW = L⁻¹ XᵀY
        _, vectors = np.linalg.eigh(whitened @ whitened.T)
        left = vectors[:, ::-1][:, :rank]  # U_r; S_r V_rᵀ = U_rᵀ LᵀW
        inner, outer = np.linalg.solve(lower.T, left), left.T @ whitened
        return LowRankMap(inner.astype(np.float32), outer.astype(np.float32))
