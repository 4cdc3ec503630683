"""How fast the drive delivers large reads in this run. Rates that were measured before know nothing of a throttle, a
neighbour or a hot drive, and where bytes are dearer than they say, reading gaps costs more than it saves.

Pure: fed with counts, in windows of many reads. What it says decides which reads get the same bundles, no bit of them.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

WINDOW_BYTES = 32 << 20
LARGE_BYTES = 256 << 10  # windows of smaller reads, on average, say more of requests than of bytes
WINDOWS = 8  # the best of the last ones counts: a window in which the drive waited for work says too little
GRID = 4096 * 2 ** np.arange(11)  # 4 KiB to 4 MiB


class ObservedRate:
    def __init__(self) -> None:
        self._windows: deque[float] = deque(maxlen=WINDOWS)
        self._reads = self._bytes = 0  # of the window under way
        self._begun_ns = 0  # the drive's busy time then

    @property
    def bytes_per_s(self) -> float | None:
        """None while nothing is known."""
        return max(self._windows, default=None)

    def see(self, reads: int, read_bytes: int, busy_ns: int) -> bool:
        """Reads that ended, and for how long any was under way up to now, from the start. Whether a window closed."""
        self._reads += reads
        self._bytes += read_bytes
        if self._bytes < WINDOW_BYTES or busy_ns <= self._begun_ns:
            return False
        is_large = self._bytes >= LARGE_BYTES * self._reads
        if is_large:
            self._windows.append(self._bytes / (busy_ns - self._begun_ns) * 1e9)
        self._reads = self._bytes = 0
        self._begun_ns = busy_ns
        return is_large


def slow_down(
    request_bytes: npt.NDArray[np.float64], request_s: npt.NDArray[np.float64], bytes_per_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sizes and times of requests as measured, where no request is faster than the observed rate. Sizes rising."""
    sizes = np.union1d(request_bytes, GRID[(request_bytes[0] < GRID) & (request_bytes[-1] > GRID)])
    return sizes, np.maximum(np.interp(sizes, request_bytes, request_s), sizes / bytes_per_s)
