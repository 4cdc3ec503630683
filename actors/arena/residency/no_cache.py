"""Nothing stays: every visit loads all that it uses. What the other policies are compared with."""

import numpy as np

from tidemill.actors.arena.residency.policy import Ids, Index, Ranks


class NoCache:
    bookkeeping_bytes = 0

    def begin_visit(self, active: Index) -> None:
        pass

    def rank(self, bundles: Index) -> Ranks:
        return np.full(bundles.size, -1, np.int64)

    def initial(self, quota: int) -> Ids:
        return np.empty(0, np.uint32)

    def new_sequence(self) -> None:
        pass
