"""Gate-first prediction of `down` across layers: low-rank stand-ins for the later layer's gate and up.

|down_i| is |act(gate_i) · up_i|, a product of two functions that are linear in a residual stream which changes slowly
from layer to layer: two maps of low rank follow it, where one map to |down_i| cannot.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tidemill.actors.low_rank import LowRankPredictor
from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen

LayerPair = tuple[int, int]  # source layer, target layer


def silu(values: F32) -> F32:
    """x / (1 + e^-x); far below 0, where e^-x would overflow, it is 0."""
    result: F32 = values / (1 + np.exp(-np.maximum(values, np.float32(-80))))
    return result


class GatedLowRankPolicy:
    """`gates` and `ups` map a source layer's gate_up input to a target layer's gate and up, before the activation."""

    def __init__(
        self,
        gates: Mapping[LayerPair, LowRankPredictor],
        ups: Mapping[LayerPair, LowRankPredictor],
        activation: Callable[[F32], F32],
    ) -> None:
        self._gates = gates
        self._ups = ups
        self._activation = activation
        self._last: dict[int, F32] = {}

    def begin_sequence(self) -> None:
        self._last.clear()

    def begin_position(self, position: int) -> None:
        self._last.clear()

    def observe(self, seen: Seen) -> None:
        if seen.kind == "gate_up" and seen.values is not None:
            self._last[seen.layer] = seen.values

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        pair = (source_layer, layer)
        if kind != "down" or pair not in self._gates or source_layer not in self._last:
            return None
        values = self._last[source_layer][None]
        gate = self._activation(self._gates[pair].scores(values)[0])
        result: F32 = np.abs(gate * self._ups[pair].scores(values)[0])
        return result
