"""Neurons by prediction: gate, up and down of neuron i are computed when a predictor's score for it reaches the layer's
threshold, before anything of the MLP is known."""

from collections.abc import Sequence

import numpy as np

from tidemill.actors.compute.selection.operators import OPERATORS_OF, InputKind
from tidemill.actors.compute.selection.selected import F32, Selected
from tidemill.actors.low_rank import LowRankPredictor


class NeuronSelection:
    kinds: frozenset[InputKind] = frozenset({"neuron"})

    def __init__(self, predictors: Sequence[LowRankPredictor], thresholds: F32) -> None:
        """One predictor per layer; thresholds f32 [layers] on its scores, -inf: every neuron."""
        self.predictors = predictors
        self.thresholds = thresholds
        self.resident_bytes = thresholds.nbytes + sum(predictor.nbytes for predictor in predictors)

    def select(self, layer: int, kind: InputKind, x: F32) -> Selected:
        operators = OPERATORS_OF[kind]
        predictor, threshold = self.predictors[layer], self.thresholds[layer]
        if threshold == -np.inf:
            mask = np.ones((x.shape[0], predictor.bias.shape[0]), np.bool_)
        else:
            mask = ~(predictor.scores(x) < threshold)  # a NaN is kept, so that it is seen
        return Selected(operators, [mask] * len(operators))
