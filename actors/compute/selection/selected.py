"""What a policy has chosen at one input: a mask per operator, and what of it has to be read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.operators import Operator

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]  # [B, K]


class Selected(NamedTuple):
    """`masks[i]` [B, K] are the channels (or neurons) that `operators[i]` computes with, at each position.

    Operators with the same channels share one array, so that callers can tell and compute them together. A position's
    mask depends on that position alone, never on what else is in the batch.
    """

    operators: Sequence[Operator]
    masks: Sequence[Mask]

    def mask_of(self, operator: Operator) -> Mask:
        return self.masks[self.operators.index(operator)]

    def union(self) -> npt.NDArray[np.uint32]:
        """The channels that some operator needs at some position, ascending."""
        needed = self.masks[0].any(axis=0)
        for mask in self.masks[1:]:
            if mask is not self.masks[0]:
                needed |= mask.any(axis=0)
        return np.flatnonzero(needed).astype(np.uint32)


def keep_above(x: F32, threshold: float) -> Mask:
    """Where |x| >= threshold, element by element; a NaN is kept, so that it is seen. 0 keeps everything."""
    if threshold <= 0.0:
        return np.ones(x.shape, np.bool_)
    return ~(np.abs(x) < np.float32(threshold))
