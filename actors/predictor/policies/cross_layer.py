"""Cross-layer prediction (ActiveFlow): an input's active channels in this layer are the next layers' too."""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen, SeenKind


class CrossLayerPolicy:
    """Each input kind is predicted by its own activation in the source layer: by magnitude where it was published, else
    all active channels alike. Holds for inputs that read the residual stream; `o` and `down` have no identity across
    layers, and are at chance level."""

    def __init__(self, channels: dict[InputKind, int]) -> None:
        self._channels = channels
        self._last: dict[tuple[int, SeenKind], F32] = {}

    def begin_sequence(self) -> None:
        self._last.clear()

    def begin_position(self, position: int) -> None:
        self._last.clear()

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
        return self._last.get((source_layer, kind))
