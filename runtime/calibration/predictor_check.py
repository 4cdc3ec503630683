"""The tap that tries trained neuron predictors on text they have not seen: their thresholds, and how often they are
right."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.runtime.calibration.magnitudes import LEVELS
from tidemill.runtime.calibration.record import PredictorQuality

F32 = npt.NDArray[np.float32]
SAMPLES = 16384  # pairs of score and magnitude kept of each lap and layer
HALF = 0.5  # the sparsity that quality is stated for


class PredictorCheck:
    def __init__(self, predictors: Sequence[LowRankPredictor], seed: int) -> None:
        self._predictors = predictors
        self._random = np.random.default_rng(seed)
        self._mlp_input: F32 = np.zeros((0, 0), np.float32)
        self._pairs: list[list[tuple[F32, F32]]] = [[] for _ in predictors]

    def see(self, kind: InputKind, layer: int, x: F32) -> None:
        if kind == "gate_up":
            self._mlp_input = x.copy()
        if kind == "down":
            places = self._random.choice(x.size, min(SAMPLES, x.size), replace=False)
            scores = self._predictors[layer].scores(self._mlp_input)
            self._pairs[layer].append((scores.reshape(-1)[places], np.abs(x.reshape(-1)[places])))

    def score_quantiles(self) -> F32:
        """f32 [layers, levels]: the scores below which each level lies."""
        return np.stack([np.quantile(scores, LEVELS) for scores, _ in map(self._joined, self._layers)]).astype(
            np.float32
        )

    def qualities(self, magnitudes: F32) -> tuple[PredictorQuality, ...]:
        """Per layer, where a neuron matters whose |act(gate)·up| reaches `magnitudes` [layers], the median of the
        training text."""
        return tuple(self._quality(layer, float(magnitudes[layer])) for layer in self._layers)

    @property
    def _layers(self) -> range:
        return range(len(self._predictors))

    def _joined(self, layer: int) -> tuple[F32, F32]:
        scores, weights = zip(*self._pairs[layer], strict=True)
        return np.concatenate(scores), np.concatenate(weights)

    def _quality(self, layer: int, magnitude: float) -> PredictorQuality:
        scores, weights = self._joined(layer)
        chosen, matters = scores >= np.quantile(scores, HALF), weights >= magnitude
        largest = weights >= np.quantile(weights, 0.9)
        both = int(np.count_nonzero(chosen & matters))
        return PredictorQuality(
            recall=both / max(1, int(np.count_nonzero(matters))),
            precision=both / max(1, int(np.count_nonzero(chosen))),
            recall_of_largest=float(chosen[largest].mean()),
        )
