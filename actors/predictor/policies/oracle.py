"""The oracle: prediction from a recorded future. It measures the harness (it must reach 100 %), and what perfect
prediction would be worth."""

from typing import Protocol

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, U32, InputKind, Seen


class RecordedFuture(Protocol):
    """The active channels of a run that was recorded; position 0 is its first recorded one."""

    def active(self, position: int, layer: int, kind: InputKind) -> U32: ...


class OraclePolicy:
    """Scores 1 for what will be active, 0 for the rest."""

    def __init__(self, channels: dict[InputKind, int], future: RecordedFuture) -> None:
        self._channels = channels
        self._future = future
        self._position = 0

    def begin_sequence(self) -> None:
        self._position = 0

    def begin_position(self, position: int) -> None:
        self._position = position

    def observe(self, seen: Seen) -> None:
        """Knows it already."""

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        scores = np.zeros(self._channels[kind], np.float32)
        scores[self._future.active(self._position, layer, kind)] = 1.0
        return scores
