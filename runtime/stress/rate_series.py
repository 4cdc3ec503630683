"""What was done in each slice of time. Pure: whoever measures says what time it is."""

from collections.abc import Sequence

import msgspec
import numpy as np

SLICE_NS = 250_000_000


class RateSample(msgspec.Struct, frozen=True, array_like=True):
    """`ms`: the end of the slice, from the beginning on. Rates of that slice alone."""

    ms: int
    bytes_per_s: float
    ios_per_s: float


class RateSeries:
    def __init__(self, begun_ns: int) -> None:
        self._begun_ns = self._since_ns = begun_ns
        self._bytes = self._ios = 0
        self.samples: list[RateSample] = []

    def see(self, now_ns: int, total_bytes: int, total_ios: int) -> RateSample | None:
        """Totals so far; a sample when a slice is over."""
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns < SLICE_NS:
            return None
        sample = RateSample(
            (now_ns - self._begun_ns) // 1_000_000,
            (total_bytes - self._bytes) / elapsed_ns * 1e9,
            (total_ios - self._ios) / elapsed_ns * 1e9,
        )
        self.samples.append(sample)
        self._since_ns, self._bytes, self._ios = now_ns, total_bytes, total_ios
        return sample


class SampleStats(msgspec.Struct, frozen=True):
    least: float
    most: float
    mean: float
    deviation: float
    samples: int


def stats_of(values: Sequence[float]) -> SampleStats:
    if not values:
        return SampleStats(0.0, 0.0, 0.0, 0.0, 0)
    array = np.array(values)
    return SampleStats(
        float(array.min()),
        float(array.max()),
        float(array.mean()),
        float(array.std(ddof=1)) if array.size > 1 else 0.0,
        array.size,
    )


def add_series(series: Sequence[Sequence[RateSample]]) -> list[RateSample]:
    """Of jobs that began together: their sums, slice by slice, as long as all of them ran."""
    return [
        RateSample(max(s.ms for s in at), sum(s.bytes_per_s for s in at), sum(s.ios_per_s for s in at))
        for at in zip(*series, strict=False)
    ]
