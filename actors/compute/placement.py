"""Where each extent lies in the arena now: the compute actor writes it, the decoder reads it."""

import numpy as np
import numpy.typing as npt

NOT_RESIDENT = -1


class Placement:
    """`offsets[extent]` is the extent's byte offset in the arena region, or NOT_RESIDENT."""

    def __init__(self, extent_count: int) -> None:
        self.offsets: npt.NDArray[np.int64] = np.full(extent_count, NOT_RESIDENT, dtype=np.int64)

    def part(self, start: int, stop: int) -> "Placement":
        """Of extents [start, stop), which it counts from 0: the same offsets, not a copy."""
        part = Placement(0)
        part.offsets = self.offsets[start:stop]
        return part

    @property
    def is_whole(self) -> bool:
        """Whether every extent is resident."""
        return bool(np.all(self.offsets != NOT_RESIDENT))

    def ready_run(self, start: int, stop: int) -> int:
        """How many extents from `start` on, before `stop`, are resident without a gap."""
        wanted = self.offsets[start:stop]
        if wanted.min() != NOT_RESIDENT:  # the common case of a resident table, in a third of the time
            return stop - start
        return int(np.argmin(wanted))
