"""What a later layer will likely select, seen from this one: its predictor on the residual stream as it is now, which
changes slowly from layer to layer (Deja Vu, section 4). It decides what is read early, never what is computed with."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.selected import F32
from tidemill.actors.low_rank import LowRankPredictor

U32 = npt.NDArray[np.uint32]


class Foresight:
    def __init__(self, predictors: Sequence[LowRankPredictor], thresholds: F32) -> None:
        """One predictor per layer; thresholds f32 [layers] on its scores."""
        self._predictors = predictors
        self._thresholds = thresholds

    def expect(self, layer: int, x: F32) -> U32:
        """Neurons of `layer`, the likeliest first; of equal ones the lower. x [1, hidden]: what its MLP's input would
        be if nothing came in between."""
        scores = self._predictors[layer].scores(x)[0]
        likely = np.flatnonzero(scores >= self._thresholds[layer])
        return likely[np.argsort(-scores[likely], kind="stable")].astype(np.uint32)
