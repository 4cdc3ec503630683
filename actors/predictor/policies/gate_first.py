"""Gate-first prediction of `down` (CATS): once a layer's gate is computed, |act(gate)| ranks its own neurons."""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen


class GateFirstPolicy:
    """Works within a layer only (distance 0): the reads of its down columns begin while up is computed."""

    def __init__(self) -> None:
        self._gates: dict[int, F32] = {}

    def begin_sequence(self) -> None:
        self._gates.clear()

    def begin_position(self, position: int) -> None:
        self._gates.clear()

    def observe(self, seen: Seen) -> None:
        if seen.kind == "gate" and seen.values is not None:
            self._gates[seen.layer] = np.abs(seen.values)

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        return self._gates.get(layer) if kind == "down" else None
