"""The two inner loops that everything else is made of. One row, one order, whatever stands around the call."""

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.elements import widen

# Sums may be split over vector lanes (that is where the speed is), but nothing may assume away NaN or infinity. Equal
# bits in every calling context are held by the contract tests.
REASSOCIATE = frozenset({"reassoc", "contract", "nsz"})
# Element by element there is nothing to reassociate: only fused multiply-add is allowed.
CONTRACT = frozenset({"contract"})

F32 = npt.NDArray[np.float32]
Stored = npt.NDArray[np.generic]


@numba.njit(fastmath=set(REASSOCIATE), cache=True)
def dot(row: Stored, x: F32) -> np.float32:
    """Σ row[k]·x[k], f32."""
    total = np.float32(0.0)
    for k in range(row.shape[0]):
        total += widen(row[k]) * x[k]
    return total


@numba.njit(fastmath=set(CONTRACT), cache=True)
def add_scaled(scale: np.float32, row: Stored, out: F32) -> None:
    """out += scale · row."""
    for k in range(row.shape[0]):
        out[k] += scale * widen(row[k])
