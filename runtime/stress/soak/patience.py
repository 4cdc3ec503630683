"""Deadlines that count the time in which this process ran: while it was stopped itself (a laptop's lid, a paused
container), so was what it waits for."""

import time
from collections.abc import Callable

TICK_S = 0.25


class Patience:
    """Ask `wait_s` for how long to wait next, wait, and ask `is_over`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._last = clock()
        self._spent = 0.0

    @property
    def is_over(self) -> bool:
        """Of a wait that took longer than it was meant to, no more than twice a tick counts."""
        now = self._clock()
        self._spent += min(now - self._last, 2 * TICK_S)
        self._last = now
        return self._spent >= self.seconds

    @property
    def wait_s(self) -> float:
        return max(0.0, min(TICK_S, self.seconds - self._spent))
