"""Quotas that move between the caches of a pool while a sequence is decoded, to where its bundles are used most. It
decides, and tells which slots came free of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.outcomes import Slots
from tidemill.actors.arena.residency.policy import Ranks
from tidemill.actors.arena.residency.table_residency import TableResidency

Counts = npt.NDArray[np.int64]


class QuotaRules(NamedTuple):
    """Quotas move after `first_tokens` of a sequence, and then whenever it has become twice as long, or `most_tokens`
    longer: what few tokens say of its uses is little, and soon said."""

    first_tokens: int
    most_tokens: int


RULES = QuotaRules(first_tokens=4, most_tokens=32)


class QuotaMove(NamedTuple):
    """`part`: a cache that lost quota, by its place. `freed`: the slots that it gave up, for the pool."""

    part: int
    freed: Slots


class MovingQuotas:
    """Caches whose policy ranks by uses of this sequence; those that hold a table whole from the start keep it.

    The sum of a pool's quotas never changes, and losers shrink before gainers grow, so a pool never holds more than
    before: reserves and room for preloads stay what they were. A cache whose visits don't teach its policy has no uses
    to go by, and keeps what it has. Decided from counts of this sequence alone, equals in the order of their visits.
    """

    def __init__(self, parts: Sequence[TableResidency], pools: Sequence[int], rules: QuotaRules) -> None:
        """`pools`: of each part, which others it shares slots with."""
        self._parts = parts
        self._rules = rules
        self._pools = pools
        self._movable = [part.quota < part.bundle_count for part in parts]
        self._taught: dict[int, None] = {}  # in the order of their visits: the last of them ends a token
        self._last = -1
        self._tokens = self._due = 0
        self._moved_bundles = 0

    @property
    def moved_bundles(self) -> int:
        """Of quota, since this was made."""
        return self._moved_bundles

    def settled(self, part: int) -> Sequence[QuotaMove]:
        """A visit that taught the part's policy is over. The last one of a token may move quotas: nobody waits for the
        arena then. Which it is, the first token of a sequence tells."""
        if part != self._last:
            if part not in self._taught:
                self._taught[part] = None
                self._last, self._tokens, self._due = part, 1, self._rules.first_tokens
            return ()
        self._tokens += 1
        if self._tokens < self._due:
            return ()
        self._due += min(self._due, self._rules.most_tokens)
        movable = [i for i in self._taught if self._movable[i]]
        pools = sorted({self._pools[i] for i in movable})
        return [move for pool in pools for move in self._move([i for i in movable if self._pools[i] == pool])]

    def new_sequence(self) -> None:
        """Quotas stay as the cached bundles do, until this sequence has taught better ones."""
        self._taught.clear()
        self._last = -1

    def _move(self, pool: Sequence[int]) -> list[QuotaMove]:
        before = [self._parts[i].quota for i in pool]
        after = plan_quotas([self._parts[i].ranks() for i in pool], before)
        changes = list(zip(pool, before, after, strict=True))
        losers = [QuotaMove(i, self._parts[i].set_quota(new).freed) for i, old, new in changes if new < old]
        for i, old, new in changes:
            if new > old:
                self._parts[i].set_quota(new)  # which frees nothing: later visits fill it
                self._moved_bundles += new - old
        return losers


def plan_quotas(uses: Sequence[Ranks], quotas: Sequence[int]) -> list[int]:
    """`uses` [n] of each cache's bundles, `quotas` that they have: quotas of the same sum for the bundles that are used
    most in all of them. Among those used equally often the present quotas decide, and change as little as they must."""
    most = max(int(counts.max()) for counts in uses)
    bundles = np.zeros(most + 1, np.int64)  # by their uses
    for counts in uses:
        bundles += np.bincount(counts, minlength=most + 1)
    room = sum(quotas)
    level = int(np.flatnonzero(np.cumsum(bundles[::-1])[::-1] >= room)[-1])  # of the last ones that there is room for
    least_kept = np.array([np.count_nonzero(counts > level) for counts in uses])
    most_kept = np.array([np.count_nonzero(counts >= level) for counts in uses])
    kept = np.clip(quotas, least_kept, most_kept)
    left = room - int(kept.sum())
    bounds = most_kept - kept if left > 0 else kept - least_kept
    planned: list[int] = (kept + np.sign(left) * _shares(abs(left), bounds)).tolist()
    return planned


def _shares(count: int, bounds: Counts) -> Counts:
    """`count`, at most the sum of `bounds`, divided in their proportion: whole numbers within them."""
    ends = np.cumsum(bounds)
    return np.diff(ends * count // max(1, int(ends[-1])), prepend=0)
