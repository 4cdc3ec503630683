"""The window of the last k tokens (LLM in a Flash, arXiv 2312.11514, section 3.1)."""

import numpy as np

from tidemill.actors.arena.residency.policy import Ids, Index, Ranks

_NEVER = np.iinfo(np.int32).min


class RecentWindow:
    """A bundle stays exactly as long as one of the last `window` visits used it; others go even where there is room,
    so that their slots serve the pool. Where the window needs more than the quota, the most recent ones stay."""

    def __init__(self, bundle_count: int, window: int) -> None:
        if window < 1:
            raise ValueError(f"a window of {window} tokens; expected 1 or more")
        self._window = window
        self._visit = 0
        self._last_used = np.full(bundle_count, _NEVER, np.int32)

    def begin_visit(self, active: Index) -> None:
        self._visit += 1
        self._last_used[active] = self._visit

    def rank(self, bundles: Index) -> Ranks:
        last = self._last_used[bundles].astype(np.int64)
        last[last <= self._visit - self._window] = -1
        return last

    def initial(self, quota: int) -> Ids:
        return np.empty(0, np.uint32)

    def new_sequence(self) -> None:
        self._last_used.fill(_NEVER)

    @property
    def bookkeeping_bytes(self) -> int:
        return self._last_used.nbytes
