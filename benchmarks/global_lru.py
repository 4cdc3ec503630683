"""One LRU over the bundles of all tables: what the arena does not do, and why."""

from collections import deque

import numpy as np

from tidemill.actors.arena.residency.policy import Index

_ABSENT = -1


class GlobalLru:
    """Tables are visited in turn, so a capacity that falls a visit short of one token's demand hits nothing: what a
    table used is gone before the next token uses it again.

    The cost of a visit is that of its bundles, whatever the capacity: those that a visit used last are dropped
    together, the oldest visit first, of one visit the highest ids first.
    """

    def __init__(self, bundle_count: int, capacity: int) -> None:
        self._last_used = np.full(bundle_count, _ABSENT, np.int32)
        self._by_visit: deque[tuple[int, Index]] = deque()
        self._capacity = capacity
        self._visit = 0
        self._cached = 0
        self.evicted = 0

    def visit(self, active: Index) -> int:
        """The number of hits among `active` [n], each once; loads the rest and evicts down to the capacity."""
        hits = int(np.count_nonzero(self._last_used[active] != _ABSENT))
        self._visit += 1
        self._last_used[active] = self._visit
        self._by_visit.append((self._visit, active))
        self._cached += active.size - hits
        while self._cached > self._capacity:
            self._evict_of_oldest(self._cached - self._capacity)
        return hits

    def _evict_of_oldest(self, most: int) -> None:
        visit, active = self._by_visit.popleft()
        still = active[self._last_used[active] == visit]
        stays = max(0, still.size - most)
        self._last_used[still[stays:]] = _ABSENT
        self._cached -= still.size - stays
        self.evicted += still.size - stays
        if stays:
            self._by_visit.appendleft((visit, still[:stays]))
