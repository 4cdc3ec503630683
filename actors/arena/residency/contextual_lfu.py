"""Contextual LFU (ActiveFlow, arXiv 2504.08378, section on the active weight cache)."""

import numpy as np

from tidemill.actors.arena.residency.policy import Ids, Index, Ranks


class ContextualLfu:
    """Rank = visits of this sequence that used the bundle. A loaded bundle is admitted only when its count exceeds that
    of the least-used cached one, so a bundle used once never displaces another used once."""

    def __init__(self, bundle_count: int) -> None:
        self._uses = np.zeros(bundle_count, np.int32)

    def begin_visit(self, active: Index) -> None:
        self._uses[active] += 1

    def rank(self, bundles: Index) -> Ranks:
        return self._uses[bundles].astype(np.int64)

    def initial(self, quota: int) -> Ids:
        return np.empty(0, np.uint32)

    def new_sequence(self) -> None:
        self._uses.fill(0)

    @property
    def bookkeeping_bytes(self) -> int:
        return self._uses.nbytes
