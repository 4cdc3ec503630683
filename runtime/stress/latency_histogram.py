"""Latencies as fio counts them: 64 buckets to each doubling, so that a percentile is off by less than 1 %. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.runtime.stress.latency_stats import LatencyStats

BITS = 6
BUCKETS = 1 << BITS
GROUPS = 35  # the last one holds an hour and a half
PERCENTILES = (1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)
I64 = npt.NDArray[np.int64]


class LatencyHistogram:
    def __init__(self) -> None:
        self._bins: I64 = np.zeros(GROUPS * BUCKETS, np.int64)
        self._count = 0
        self._mean = self._squares = 0.0  # `_squares`: of distances to the mean
        self._least, self._most = 0, 0

    @property
    def count(self) -> int:
        return self._count

    def add(self, latencies_ns: Sequence[int] | I64) -> None:
        values = np.asarray(latencies_ns, np.int64)
        if values.size == 0:
            return
        self._bins += np.bincount(buckets_of(values), minlength=len(self._bins))
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        self._join(values.size, mean, squares, int(values.min()), int(values.max()))

    def merge(self, other: "LatencyHistogram") -> None:
        if other._count:
            self._bins += other._bins
            self._join(other._count, other._mean, other._squares, other._least, other._most)

    def percentile(self, share: float) -> int:
        """The middle of the bucket below or in which `share` per cent lie; 0 where nothing was counted."""
        if not self._count:
            return 0
        ends = np.cumsum(self._bins)
        return int(values_of(np.array([np.searchsorted(ends, max(1, share / 100 * self._count))]))[0])

    def stats(self, *, percentiles: bool = True) -> LatencyStats:
        filled = np.flatnonzero(self._bins)
        return LatencyStats(
            min=self._least,
            max=self._most,
            mean=self._mean,
            stddev=(self._squares / (self._count - 1)) ** 0.5 if self._count > 1 else 0.0,
            N=self._count,
            percentile={f"{share:.6f}": self.percentile(share) for share in PERCENTILES}
            if percentiles and self._count
            else {},
            bins=dict(zip(map(str, values_of(filled).tolist()), self._bins[filled].tolist(), strict=True)),
        )

    def _join(self, count: int, mean: float, squares: float, least: int, most: int) -> None:
        """Chan, Golub and LeVeque (1979): sums of squares of two parts from theirs."""
        total = self._count + count
        apart = mean - self._mean
        self._squares += squares + apart**2 * self._count * count / total
        self._mean += apart * count / total
        self._least = min(self._least, least) if self._count else least
        self._most = max(self._most, most)
        self._count = total

    @classmethod
    def of_stats(cls, stats: LatencyStats) -> "LatencyHistogram":
        """What `stats` was made of, as far as buckets say it."""
        histogram = cls()
        if not stats.N:
            return histogram
        values = np.array(list(map(int, stats.bins)), np.int64)
        np.add.at(histogram._bins, buckets_of(values), list(stats.bins.values()))
        histogram._join(stats.N, stats.mean, stats.stddev**2 * max(0, stats.N - 1), stats.min, stats.max)
        return histogram


def buckets_of(values: I64) -> I64:
    """[n] -> [n]: values below 128 have a bucket each; then every doubling has 64."""
    bounded = np.clip(values, 0, (1 << (GROUPS + BITS - 1)) - 1)
    shift = np.maximum(np.frexp(bounded.astype(np.float64))[1].astype(np.int64) - 1 - BITS, 0)
    buckets: I64 = np.where(
        bounded < 2 * BUCKETS, bounded, ((shift + 1) << BITS) + ((bounded >> shift) & (BUCKETS - 1))
    )
    return buckets


def values_of(buckets: I64) -> I64:
    """[n] -> [n]: the middle of each."""
    shift = np.maximum((buckets >> BITS) - 1, 0)
    first = (np.int64(1) << (shift + BITS)) + ((buckets & (BUCKETS - 1)) << shift)
    values: I64 = np.where(buckets < 2 * BUCKETS, buckets, first + ((np.int64(1) << shift) >> 1))
    return values
