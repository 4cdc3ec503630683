"""Trains the low-rank preload policies on recorded activations. One map per (source layer, target layer)."""

from collections.abc import Sequence

import numpy as np

from benchmarks.recorded_trace import RecordedActivations
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.actors.predictor.policies.gated_low_rank import GatedLowRankPolicy, silu
from tidemill.actors.predictor.policies.low_rank import LowRankPolicy
from tidemill.actors.predictor.policies.policy import F32, InputKind
from tidemill.runtime.calibration.low_rank_fit import Moments

RIDGE = 0.01
FEATURES = "gate_up"  # the last input that reads the residual stream of a layer


def train_low_rank(
    train: RecordedActivations, kinds: Sequence[InputKind], pairs: Sequence[tuple[int, int]], rank: int
) -> LowRankPolicy:
    """Predicts magnitudes."""
    maps = {}
    for source, target in pairs:
        outputs = [np.abs(_values(train, kind, target)) for kind in kinds]
        fitted = _fit(_values(train, FEATURES, source), outputs, rank)
        maps.update({(kind, source, target): found for kind, found in zip(kinds, fitted, strict=True)})
    return LowRankPolicy(maps, FEATURES)


def train_gated(train: RecordedActivations, pairs: Sequence[tuple[int, int]], rank: int) -> GatedLowRankPolicy:
    """Predicts gate and up; needs both recorded."""
    gates, ups = {}, {}
    for source, target in pairs:
        outputs = [_values(train, kind, target) for kind in ("gate", "up")]
        gates[source, target], ups[source, target] = _fit(_values(train, FEATURES, source), outputs, rank)
    return GatedLowRankPolicy(gates, ups, silu)


def _values(train: RecordedActivations, kind: str, layer: int) -> F32:
    return train.values[kind][:, layer].astype(np.float32)


def _fit(features: F32, outputs: Sequence[F32], rank: int) -> list[LowRankPredictor]:
    fits = []
    for wanted in outputs:
        moments = Moments(features.shape[1], wanted.shape[1])
        moments.add(features, wanted)
        fits.append(moments.fit(rank, RIDGE))
    return fits
