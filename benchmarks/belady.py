"""Belady's optimum as a residency policy: it knows every visit to come, which a live arena cannot."""

from collections.abc import Sequence

import numpy as np

from tidemill.actors.arena.residency.policy import RANK_LIMIT, Ids, Index, Ranks

_NEVER = np.iinfo(np.int32).max


class Belady:
    """Rank = how soon the bundle is used again; what never is does not stay.

    Keeping a bundle from one use to the next is an interval that yields one hit, and at most `quota` intervals may
    overlap: to drop those that end last gives the most hits that any choice can (bundles have one size, loaded ones may
    be refused). Without a prompt to choose from first, a hot set loaded at start can beat it by a few hits.
    """

    def __init__(self, bundle_count: int, visits: Sequence[Ids]) -> None:
        """`visits`: the active bundles of every visit of the table, in order."""
        upcoming = np.full(bundle_count, _NEVER, np.int32)
        self._next_uses = [upcoming[:0]] * len(visits)
        for number in range(len(visits) - 1, -1, -1):
            self._next_uses[number] = upcoming[visits[number]]
            upcoming[visits[number]] = number
        self._next_use = upcoming  # before the first visit: the first use of each
        self._visit = 0

    def begin_visit(self, active: Index) -> None:
        self._next_use[active] = self._next_uses[self._visit]
        self._visit += 1

    def rank(self, bundles: Index) -> Ranks:
        next_use = self._next_use[bundles].astype(np.int64)
        return np.where(next_use == _NEVER, -1, RANK_LIMIT - 1 - next_use)

    def initial(self, quota: int) -> Ids:
        return np.empty(0, np.uint32)

    def new_sequence(self) -> None:
        pass

    @property
    def bookkeeping_bytes(self) -> int:
        return self._next_use.nbytes + sum(uses.nbytes for uses in self._next_uses)
