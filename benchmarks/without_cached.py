"""A preload policy beside a cache: what already lies in DRAM is neither named nor asked for.

The cache is a contextual LFU without admission delay: of each (layer, input) the channels that this sequence used most
often so far. A policy that names what is popular finds little that such a cache lacks, whatever its recall without one.
"""

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, U32, InputKind, PreloadPolicy, Seen
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.selection import choose_channels


class WithoutCached:
    def __init__(
        self, policy: PreloadPolicy, channels: dict[InputKind, int], layer_count: int, cache_share: float
    ) -> None:
        self._policy = policy
        self._sizes = {kind: int(count * cache_share) for kind, count in channels.items()}
        self._uses = PopularityPolicy(channels, layer_count, decay=1.0, prior={})

    def begin_sequence(self) -> None:
        self._policy.begin_sequence()
        self._uses.begin_sequence()

    def begin_position(self, position: int) -> None:
        self._policy.begin_position(position)

    def observe(self, seen: Seen) -> None:
        self._policy.observe(seen)
        self._uses.observe(seen)

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        scores = self._policy.score(layer, kind, source_layer)
        if scores is None:
            return None
        scores = scores.copy()
        scores[self.cached(layer, kind)] = 0
        return scores

    def missing(self, active: U32, layer: int, kind: InputKind) -> U32:
        """Those of `active` that the cache lacks, in ascending order."""
        return np.setdiff1d(active, self.cached(layer, kind), assume_unique=True)

    def cached(self, layer: int, kind: InputKind) -> U32:
        uses = self._uses.score(layer, kind, layer)
        return choose_channels(uses, self._sizes[kind]).channels if uses is not None else np.zeros(0, np.uint32)
