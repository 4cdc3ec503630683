"""What is said of many latencies, in fio's words."""

from collections.abc import Mapping

import msgspec


class LatencyStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """`percentile`: "99.000000" -> ns. `bins`: the middle of each bucket in ns -> how many; with json+ alone."""

    min: int
    max: int
    mean: float
    stddev: float
    N: int
    percentile: Mapping[str, int] = {}
    bins: Mapping[str, int] = {}

    def without_bins(self) -> "LatencyStats":
        return msgspec.structs.replace(self, bins={})
