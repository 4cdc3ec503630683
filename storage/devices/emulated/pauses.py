"""How fast a drive works over time: pauses for garbage collection, throttling by heat, stalls that were asked for."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

S = 1e9  # nanoseconds
COOLED = 0.5  # of the heat at which throttling begins: where it ends


class Pauses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is served for `pause_s`; from the end of one pause to the next it takes half to one and a half
    `period_s`, evenly distributed."""

    pause_s: float
    period_s: float


class Throttle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After `after_s` of reading the drive is hot and works at `share` of its speed. Rest takes back heat as fast as
    reading brings it; at half of it the drive is itself again."""

    share: float
    after_s: float


class Stall(NamedTuple):
    """Nothing is served for `seconds`, once: after so much time since the first read, or so many bytes."""

    seconds: float
    after_s: float | None
    after_bytes: int | None


class Pace:
    """Times are ns of the drive's clock, as floats. `begin` comes first."""

    def __init__(self, *, gc: Pauses | None, throttle: Throttle | None, stalls: Sequence[Stall], seed: int) -> None:
        self._gc = gc
        self._throttle = throttle
        self._stalls = list(stalls)
        self._random = random.Random(seed)
        self._windows: list[tuple[float, float]] = []  # in which nothing is served, by stalls
        self._pause = (float("inf"), float("inf"))
        self._heat_ns = 0.0
        self._is_hot = False
        self._origin: float | None = None

    def begin(self, now: float) -> None:
        """The first read has come; what comes later is not looked at."""
        if self._origin is not None:
            return
        self._origin = now
        for stall in self._stalls:
            if stall.after_s is not None:
                start = now + stall.after_s * S
                self._windows.append((start, start + stall.seconds * S))
        self._plan_pause(now)

    def count(self, served_bytes: int, now: float) -> None:
        """So many bytes have been served by now, all together."""
        for stall in [s for s in self._stalls if s.after_bytes is not None and s.after_bytes <= served_bytes]:
            self._stalls.remove(stall)
            self._windows.append((now, now + stall.seconds * S))

    def look(self, now: float, *, is_busy: bool) -> tuple[float, float]:
        """The speed, 1 being the table's, and until when it stays so if the drive stays as busy as it is."""
        while now >= self._pause[1]:
            self._plan_pause(self._pause[1])
        until = float("inf")
        for start, stop in (*self._windows, self._pause):
            if start <= now < stop:
                return 0.0, stop
            if start > now:
                until = min(until, start)
        if self._throttle is None:
            return 1.0, until
        limit = self._throttle.after_s * S
        if is_busy:
            left = float("inf") if self._is_hot else limit - self._heat_ns
        else:
            left = self._heat_ns - COOLED * limit if self._is_hot else float("inf")
        return self._throttle.share if self._is_hot else 1.0, min(until, now + max(left, 1.0))

    def pass_time(self, ns: float, *, is_busy: bool) -> None:
        """Heat rises and falls; no longer than `look` said."""
        if self._throttle is None:
            return
        limit = self._throttle.after_s * S
        self._heat_ns = min(limit, max(0.0, self._heat_ns + (ns if is_busy else -ns)))
        if self._heat_ns >= limit:
            self._is_hot = True
        elif self._heat_ns <= COOLED * limit:
            self._is_hot = False

    def _plan_pause(self, now: float) -> None:
        if self._gc is not None:
            start = now + self._gc.period_s * self._random.uniform(0.5, 1.5) * S
            self._pause = (start, start + self._gc.pause_s * S)
