"""Rates between the points that were measured. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tidemill.runtime.planning.rates import FlashRates, KernelRates


def request_seconds(flash: FlashRates, sizes: Sequence[int], depth: int) -> float:
    """Seconds that the drive takes for requests of these sizes in bytes, `depth` of them under way at any time.

    A request's share of the time is affine in its size (a fixed cost and a cost per byte), so times are interpolated
    linearly over sizes; rates over the logarithm of the depth. Outside the grid: the cost per byte of the largest size
    measured, the time per byte of the smallest, the rates of the nearest depth.
    """
    measured = np.array(sorted({point.request_bytes for point in flash.points}), np.float64)
    rates = np.array([_rate_at(flash, int(size), depth) for size in measured])
    wanted = np.asarray(sizes, np.float64)
    inside = np.interp(wanted, measured, measured / rates)
    scale = np.where(wanted > measured[-1], wanted / measured[-1], np.minimum(1.0, wanted / measured[0]))
    return float(np.sum(inside * scale))


def flop_rate(kernels: KernelRates, kind: str, element_bytes: float, batch: int) -> float:
    """Operations per second of a batch, interpolated over the logarithm of the batch; batch 1 computes
    2 / `element_bytes` operations per byte of its weights. Above the largest batch measured: that one's rate."""
    points = {1: weight_rate(kernels, kind) * 2 / element_bytes, **kernels.flop_per_s}
    batches = sorted(points)
    return float(np.interp(math.log(batch), [math.log(b) for b in batches], [points[b] for b in batches]))


def weight_rate(kernels: KernelRates, kind: str) -> float:
    """Bytes per second at batch 1; of a kind that was not measured, the slowest known."""
    return kernels.bytes_per_s.get(kind, min(kernels.bytes_per_s.values()))


def scale_kernels(kernels: KernelRates, ratio: float) -> KernelRates:
    """The same kernels on `ratio` of the threads they were measured with."""
    return KernelRates(
        bytes_per_s={kind: rate * ratio for kind, rate in kernels.bytes_per_s.items()},
        flop_per_s={batch: rate * ratio for batch, rate in kernels.flop_per_s.items()},
    )


def _rate_at(flash: FlashRates, size: int, depth: int) -> float:
    by_depth: Mapping[int, float] = {p.depth: p.bytes_per_s for p in flash.points if p.request_bytes == size}
    depths = sorted(by_depth)
    return float(np.interp(math.log(depth), [math.log(d) for d in depths], [by_depth[d] for d in depths]))
