"""Popularity prediction: what this sequence (or text before it) used most often is used again."""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, InputKind, Seen, SeenKind


class PopularityPolicy:
    """Counts of each channel's uses in this sequence. `decay` below 1 forgets: a use k positions ago counts decay^k.
    `prior` holds counts from calibration, [layers, channels] per input kind, which every sequence begins with."""

    def __init__(
        self, channels: dict[InputKind, int], layer_count: int, *, decay: float, prior: dict[InputKind, F32]
    ) -> None:
        """Raises ValueError for a decay outside of (0, 1]."""
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay}, expected more than 0 and at most 1")
        self._decay = decay
        self._prior: dict[SeenKind, F32] = {
            kind: prior.get(kind, np.zeros((layer_count, count), np.float32)) for kind, count in channels.items()
        }
        self._counts: dict[SeenKind, F32] = {}
        self.begin_sequence()

    def begin_sequence(self) -> None:
        self._counts = {kind: counts.copy() for kind, counts in self._prior.items()}

    def begin_position(self, position: int) -> None:
        """Counts decay when their own input is observed."""

    def observe(self, seen: Seen) -> None:
        if seen.kind == "gate":
            return
        counts = self._counts[seen.kind][seen.layer]
        counts *= np.float32(self._decay)
        counts[seen.active] += 1.0

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        counts: F32 = self._counts[kind][layer]
        return counts
