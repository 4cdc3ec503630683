"""A descriptor that becomes readable at a given time: who waits for descriptors need not wait for clocks too."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

CLOCK_MONOTONIC = 1
TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1
S = 1_000_000_000


class Alarm(Protocol):
    """Set for one moment at a time, of `time.perf_counter_ns`; a moment that has passed rings at once."""

    @property
    def wake_fds(self) -> tuple[int, ...]: ...

    def set(self, at_ns: int | None) -> None: ...  # None: never; silences one that rings

    def close(self) -> None: ...


class NoAlarm:
    """For hosts that look anyway: tests with a clock of their own."""

    wake_fds: tuple[int, ...] = ()

    def set(self, at_ns: int | None) -> None:
        pass

    def close(self) -> None:
        pass


class TimerAlarm:
    """Implements Alarm by Linux's timerfd, which Python has from 3.13 on. Some 60 µs late, as any wake-up."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime: Callable[..., int] = libc.timerfd_settime
        self._fd: int = libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"no timer to be had: {os.strerror(number)}")
        self._at_ns: int | None = None

    @property
    def wake_fds(self) -> tuple[int, ...]:
        return (self._fd,)

    def set(self, at_ns: int | None) -> None:
        if at_ns == self._at_ns and (at_ns is None or at_ns > time.perf_counter_ns()):
            return
        self._at_ns = at_ns
        seconds, rest = divmod(0 if at_ns is None else max(at_ns, 1), S)
        # struct itimerspec: no interval, then the moment; all zeros turn it off. Setting it forgets that it rang.
        moment = (ctypes.c_long * 4)(0, 0, seconds, rest)
        self._settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(moment), None)
        if at_ns is None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, 8)

    def close(self) -> None:
        """Closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def make_alarm() -> Alarm:
    """Where the system has no such timer, whoever waits for it looks now and then anyway (the host, every 50 ms)."""
    return TimerAlarm() if sys.platform == "linux" else NoAlarm()
