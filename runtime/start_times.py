"""Where the time before the first token goes: phases of a start, in seconds."""

import os
import time
from collections.abc import Mapping
from pathlib import Path


class StartClock:
    """Splits the time since it was made into named phases."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._phases: dict[str, float] = {}

    def end(self, phase: str) -> None:
        """What happened since the last phase ended was this one."""
        now = time.perf_counter()
        self._phases[phase] = now - self._last
        self._last = now

    @property
    def phases(self) -> Mapping[str, float]:
        return dict(self._phases)


def seconds_since_process_start() -> float | None:
    """How long this process exists: its interpreter's start and imports, when asked at once. None where the system does
    not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return None
