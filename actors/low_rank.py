"""A trained low-rank linear map (Deja Vu, section 3; LLM in a Flash, section 3.1): compute selects neurons with one per
layer, policies of the predictor preload by others across layers. Trained by runtime/calibration/low_rank_fit.py."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


class LowRankPredictor(NamedTuple):
    """score(x) = bias + (x · inward) · outward, for x [B, hidden]: inward f32 [hidden, rank], outward [rank, ff],
    bias [ff]."""

    inward: F32
    outward: F32
    bias: F32

    def scores(self, x: F32) -> F32:
        """f32 [B, ff]. Position by position: a product over the whole batch would round a position's score by what
        else is in the batch, and near a threshold the mask would follow."""
        scores = np.empty((x.shape[0], self.bias.shape[0]), np.float32)
        for position, row in enumerate(x):
            scores[position] = (row @ self.inward) @ self.outward + self.bias
        return scores

    @property
    def nbytes(self) -> int:
        return self.inward.nbytes + self.outward.nbytes + self.bias.nbytes
