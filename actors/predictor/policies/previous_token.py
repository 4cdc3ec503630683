"""Previous-token prediction: an input's active channels are those that it had at the position before."""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen, SeenKind


class PreviousTokenPolicy:
    """Scores are the magnitudes of the position before where they were published, else 1 for each active channel."""

    def __init__(self, channels: dict[InputKind, int]) -> None:
        self._channels = channels
        self._last: dict[tuple[int, SeenKind], F32] = {}

    def begin_sequence(self) -> None:
        self._last.clear()

    def begin_position(self, position: int) -> None:
        """The sets of the position before stay until those of this one replace them, layer by layer."""

    def observe(self, seen: Seen) -> None:
        if seen.kind == "gate":
            return
        if seen.values is not None:
            self._last[seen.layer, seen.kind] = np.abs(seen.values)
        else:
            scores = np.zeros(self._channels[seen.kind], np.float32)
            scores[seen.active] = 1.0
            self._last[seen.layer, seen.kind] = scores

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        return self._last.get((layer, kind)) if layer > source_layer else None
