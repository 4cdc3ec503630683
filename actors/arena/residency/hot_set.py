"""The static hot set: what was used most on calibration text stays, whatever this text uses (PowerInfer, EdgeMoE)."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids, Index, Ranks


class HotSet:
    """Rank = the place in offline popularity, the most popular highest. The hottest `quota` bundles are loaded before
    the first visit; nothing displaces them, and where they were not loaded, the hottest of what is used fills up."""

    def __init__(self, popularity: npt.NDArray[np.int64]) -> None:
        """`popularity` [bundle_count]: uses of each bundle on other text; the lower id is hotter among equals."""
        self._hottest_first = np.argsort(-popularity, kind="stable").astype(np.int32)
        self._rank = np.empty(popularity.size, np.int32)
        self._rank[self._hottest_first] = np.arange(popularity.size - 1, -1, -1, dtype=np.int32)

    def begin_visit(self, active: Index) -> None:
        pass

    def rank(self, bundles: Index) -> Ranks:
        return self._rank[bundles].astype(np.int64)

    def initial(self, quota: int) -> Ids:
        return np.sort(self._hottest_first[:quota]).astype(np.uint32)

    def new_sequence(self) -> None:
        pass

    @property
    def bookkeeping_bytes(self) -> int:
        return self._hottest_first.nbytes + self._rank.nbytes
