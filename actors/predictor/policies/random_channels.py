"""Random prediction: the chance level that the other policies are measured against."""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, INPUT_KINDS, InputKind, Seen


class RandomPolicy:
    """Scores depend on seed, position, layer and input kind alone, not on the order of the calls."""

    def __init__(self, channels: dict[InputKind, int], seed: int) -> None:
        self._channels = channels
        self._seed = seed
        self._position = 0

    def begin_sequence(self) -> None:
        self._position = 0

    def begin_position(self, position: int) -> None:
        self._position = position

    def observe(self, seen: Seen) -> None:
        """Learns nothing."""

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        state = np.random.default_rng([self._seed, self._position, layer, INPUT_KINDS.index(kind)])
        return 1 - state.random(self._channels[kind], np.float32)  # in (0, 1]
