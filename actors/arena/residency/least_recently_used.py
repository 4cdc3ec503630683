"""LRU per table. What a visit loads always displaces what older visits used."""

import numpy as np

from tidemill.actors.arena.residency.policy import Ids, Index, Ranks


class LeastRecentlyUsed:
    """Rank = the last visit that used the bundle. Recency outlives a sequence: `new_sequence` changes nothing."""

    def __init__(self, bundle_count: int) -> None:
        self._visit = 0
        self._last_used = np.zeros(bundle_count, np.int32)

    def begin_visit(self, active: Index) -> None:
        self._visit += 1
        self._last_used[active] = self._visit

    def rank(self, bundles: Index) -> Ranks:
        return self._last_used[bundles].astype(np.int64)

    def initial(self, quota: int) -> Ids:
        return np.empty(0, np.uint32)

    def new_sequence(self) -> None:
        pass

    @property
    def bookkeeping_bytes(self) -> int:
        return self._last_used.nbytes
