"""Low-rank prediction (Deja Vu, LLM in a Flash): a trained map from a residual-stream input that is known earlier to
the magnitudes of an input that has no identity across layers."""

from collections.abc import Mapping

from tidemill.actors.low_rank import LowRankPredictor
from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen, SeenKind

MapKey = tuple[InputKind, int, int]  # predicted kind, source layer, target layer


class LowRankPolicy:
    """`features` is the input kind that is mapped; its values must be published, else nothing is predicted."""

    def __init__(self, maps: Mapping[MapKey, LowRankPredictor], features: SeenKind) -> None:
        self._maps = maps
        self._features = features
        self._last: dict[int, F32] = {}

    def begin_sequence(self) -> None:
        self._last.clear()

    def begin_position(self, position: int) -> None:
        self._last.clear()

    def observe(self, seen: Seen) -> None:
        if seen.kind == self._features and seen.values is not None:
            self._last[seen.layer] = seen.values

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        trained, values = self._maps.get((kind, source_layer, layer)), self._last.get(source_layer)
        return None if trained is None or values is None else trained.scores(values[None])[0]
