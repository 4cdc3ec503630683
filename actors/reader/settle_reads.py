"""Which of several ways to read single bundles a run settles on: by the time that its own gathers take.

Times that were measured before know nothing of a throttle, a neighbour or a hot drive. What is chosen decides which
reads get the same bundles, and no bit of them.
"""

BETTER = 0.97  # of the best way's time: what a trial must come below, as times scatter
REST = 12  # windows between trials once both neighbours were worse; twice as long each time after, to
REST_MAX = 96
LATEST = 0.3  # share of the last window in the best way's time


class SettleReads:
    """Goes along ways 0 .. count - 1 while that brings something: a trial of a neighbour lasts one window."""

    def __init__(self, count: int, start: int, *, gathers: int) -> None:
        """`gathers`: of one window, as many as a token needs, so that windows are alike."""
        self._count = count
        self._gathers = gathers
        self._best = self._trial = start
        self._best_s: float | None = None  # per useful byte
        self._direction = 1
        self._failed = 0  # trials since the last that brought something
        self._rest = REST
        self._wait = 0  # windows until the next trial
        self._seconds = 0.0  # of the window under way
        self._bytes = 0
        self._seen = 0

    @property
    def choice(self) -> int:
        return self._trial

    def see(self, seconds: float, useful_bytes: int) -> None:
        """A gather by the present choice has ended."""
        self._seconds += seconds
        self._bytes += useful_bytes
        self._seen += 1
        if self._seen < self._gathers or not self._bytes:
            return
        cost = self._seconds / self._bytes
        self._seconds, self._bytes, self._seen = 0.0, 0, 0
        if self._trial == self._best:
            self._keep(cost)
        else:
            self._judge(cost)

    def _keep(self, cost: float) -> None:
        self._best_s = cost if self._best_s is None else (1 - LATEST) * self._best_s + LATEST * cost
        self._wait -= 1
        if self._wait < 0:
            self._try_next()

    def _judge(self, cost: float) -> None:
        assert self._best_s is not None, "a trial comes after a window of the best way"
        if cost < BETTER * self._best_s:
            self._best, self._best_s = self._trial, cost
            self._failed, self._rest = 0, REST
            self._try_next()
            return
        self._trial = self._best
        self._direction = -self._direction
        self._failed += 1
        self._wait = 0
        if self._failed > 1:
            self._failed, self._wait = 0, self._rest
            self._rest = min(REST_MAX, 2 * self._rest)

    def _try_next(self) -> None:
        if not 0 <= self._best + self._direction < self._count:
            self._direction = -self._direction
        self._trial = self._best + self._direction
