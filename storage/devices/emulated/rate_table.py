"""What reads take of a drive: a table over request sizes and depths, filled from the few figures that are published."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

SIZES = tuple(4096 << i for i in range(11))  # 4 KiB .. 4 MiB
DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)


class Point(NamedTuple):
    """A published rate that the rule of `RateTable.of` would not give."""

    size: int
    depth: int
    bytes_per_s: float


class Figures(NamedTuple):
    """What is published of a drive. `slots`: requests that it takes at once, the rest wait."""

    alone_s: float  # a read of 4 KiB with nothing beside it
    reads_per_s: float  # of 4 KiB, as many at once as it takes
    bytes_per_s: float  # of large reads
    slots: int
    points: tuple[Point, ...] = ()


class RateTable:
    """`seconds` [sizes, depths]: what a read takes with so many under way, itself among them. Depth · size / seconds is
    the drive's rate.

    Between sizes and between depths seconds are linear: exact for a latency plus a transfer, and for a drive that is
    full. Smaller reads take what the smallest does; beyond the last size and depth the rate stays.
    """

    def __init__(self, seconds: F64) -> None:
        self._seconds = seconds
        self._columns = [np.ascontiguousarray(column) for column in seconds.T]
        self._known: dict[int, list[float]] = {}  # the costs of sizes that were asked for; extents have few

    @classmethod
    def of(cls, figures: Figures) -> "RateTable":
        """Alone, a read takes `alone_s` and the transfer of what it has above 4 KiB. Several take as long each, up to
        what the drive does at most: `reads_per_s`, and `bytes_per_s`. Points hold as published: smaller reads and fewer
        at once are no faster, larger ones and more no slower."""
        sizes = np.array(SIZES, np.float64)
        alone = figures.alone_s + (sizes - SIZES[0]) / figures.bytes_per_s
        most = np.minimum(figures.reads_per_s * sizes, figures.bytes_per_s)
        rates = np.minimum(np.array(DEPTHS) * (sizes / alone)[:, None], most[:, None])
        for size, depth, rate in figures.points:
            row, column = SIZES.index(size), DEPTHS.index(depth)
            rates[: row + 1, : column + 1] = np.minimum(rates[: row + 1, : column + 1], rate)
            rates[row:, column:] = np.maximum(rates[row:, column:], rate)
        return cls(np.array(DEPTHS) * sizes[:, None] / rates)

    @classmethod
    def unlimited(cls) -> "RateTable":
        return cls(np.zeros((len(SIZES), len(DEPTHS))))

    @property
    def peak(self) -> float:
        """Bytes per second, the highest of the table; infinite without limits."""
        rates = [self.rate(size, depth) for size in SIZES for depth in DEPTHS]
        return max(rates)

    def limited(self, *, bytes_per_s: float | None, added_s: float) -> "RateTable":
        """At most `bytes_per_s` all together, and each read longer by `added_s`."""
        seconds = self._seconds
        if bytes_per_s is not None:
            least = np.array(DEPTHS) * np.array(SIZES, np.float64)[:, None] / bytes_per_s
            seconds = np.maximum(seconds, least)
        return RateTable(seconds + added_s)

    def costs(self, sizes: Sequence[int] | npt.NDArray[np.int64]) -> F64:
        """Seconds of each read at each of DEPTHS: [reads, depths]."""
        wanted = np.asarray(sizes, np.float64)
        found = np.stack([np.interp(wanted, SIZES, column) for column in self._columns], axis=-1)
        beyond = np.maximum(wanted / SIZES[-1], 1.0)
        scaled: F64 = found * beyond[:, None]
        return scaled

    def cost(self, size: int) -> list[float]:
        """Of one read, at each of DEPTHS."""
        known = self._known.get(size)
        if known is None:
            known = self._known[size] = self.costs([size])[0].tolist()
        return known

    def seconds(self, size: int, depth: int) -> float:
        return at_depth(self.cost(size), depth)

    def rate(self, size: int, depth: int) -> float:
        """Bytes per second, of `depth` reads of `size` bytes at any time."""
        seconds = self.seconds(size, depth)
        return depth * size / seconds if seconds else float("inf")


def at_depth(costs: Sequence[float], depth: int) -> float:
    """What lies between the columns of one read, or of the sum of several."""
    above = (depth - 1).bit_length()  # of DEPTHS, the first that is not less
    if above >= len(DEPTHS):
        return costs[-1] * depth / DEPTHS[-1]
    if DEPTHS[above] == depth:
        return costs[above]
    low, high = DEPTHS[above - 1], DEPTHS[above]
    return costs[above - 1] + (costs[above] - costs[above - 1]) * (depth - low) / (high - low)
