"""The model of time of runs whose bundles come one by one: ActiveFlow's Eq. 1-9 over what a replay found. Pure.

The paper (arXiv 2504.08378 v2), with sp sparsity, hr hit rate, si similarity, S_l a layer's bytes, N layers a group:

    T_overlap = T_onload + max(T_preload, T_comp)       T_onload = S_l (1-sp)(1-hr)(1-si) / BW_small
    T_preload = M_cl (1-hr) / BW_large                  M_cl     = S_l (1-sp) N

What is corrected here, and why:

- Hits, missing bundles and reads are not shares of bytes: they are what residency and read planner make of selections
  (`bundle_replay.py`), and reads take what single bundles were measured to take.
- Every input is a demand of its own. Compute asks, waits, and is alone while it computes; a visit takes its messages'
  time, whatever is read.
- A group's preload is read while the group before it computes, in what its demands leave of the drive; the part that
  isn't read by then, a share 1 - f, is not hidden but demanded.
- A demand waits for the preload reads under way. As the drive is free when a demand has been served, compute and
  preload begin together then, so in the time t between two demands n = ⌈t / read time⌉ reads are begun. It waits
  likewise for reads of what streams through the ring, as far as the drive is busy with those.
- Group 0 cannot be predicted: it is locked where the arena has room for it.
- The drive does one thing at a time: ring, demands and preloads together bound the token.

With D what demands read without preloading, D' with all of it in time, V the preloads (seconds of the drive), and d
demands with t seconds between two of them:

    f = min(1, d n r / V)        T_wait = d f' (n r - t)        T = T_comp + T_visits + f D' + (1 - f) D + T_wait
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tidemill.runtime.planning.bundle_replay import Reads, TableUse
from tidemill.runtime.planning.constants import (
    CHOICE_BUNDLE_S,
    CHOICE_S,
    DEMAND_RATIO,
    GATHER_BUNDLE_S,
    GATHER_READ_S,
    KERNEL_RATIO,
    VISIT_BUNDLE_S,
    VISIT_S,
)
from tidemill.runtime.planning.interpolation import request_seconds, weight_rate
from tidemill.runtime.planning.rates import GatherRates, MachineRates

ActiveBottleneck = Literal["flash", "compute", "management"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseWork:
    """What a token does beside its visits: seconds of kernels and of Python in compute; of the drive for what streams
    through the ring, in reads that take `ring_read_s` each; `ring_bytes` of those."""

    compute_s: float
    management_s: float
    ring_s: float
    ring_read_s: float
    ring_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePrediction:
    """Seconds and bytes of a token. `stall_s` + `compute_s` + `management_s` make it up; `io_s` is how long the drive
    is busy meanwhile. `visits_s`, `demand_s` and `wait_s` (for reads under way) are parts of the stall."""

    decode_s_per_token: float
    io_s_per_token: float
    stall_s_per_token: float
    compute_s_per_token: float
    management_s_per_token: float
    visits_s: float
    demand_s: float
    wait_s: float
    active_bundles_per_token: float
    active_bytes_per_token: float
    hit_rate: float
    preload_hit_rate: float
    demanded_bytes: float  # wanted on demand
    preloaded_bytes: float  # read ahead, whether used or not
    ring_bytes: int
    flash_bytes_per_token: float  # all that is read
    reads_per_token: float
    read_amplification: float  # bytes read for single bundles, over those wanted; 1 where nothing is read
    hidden_ratio: float  # of the preload, what is read in time
    bottleneck: ActiveBottleneck

    @property
    def decode_tokens_per_s(self) -> float:
        return 1 / self.decode_s_per_token


def predict_active(uses: Sequence[TableUse], dense: DenseWork, rates: MachineRates, io_depth: int) -> ActivePrediction:
    """`uses`: by role. The kernels' time is that of the bytes which are computed with."""
    gathers = gather_rates(rates, io_depth)
    demand, planned, left = (_sum([getattr(use, name) for use in uses]) for name in ("demand", "planned", "left"))
    visits, demands = sum(use.visits for use in uses), sum(use.missing_visits for use in uses)
    active = sum(use.active for use in uses)
    bundles_s = sum(use.active_bytes / weight_rate(rates.kernels, use.kind) for use in uses)
    compute_s = KERNEL_RATIO * (dense.compute_s + bundles_s)
    management_s = dense.management_s + visits * CHOICE_S + active * CHOICE_BUNDLE_S
    visits_s = visits * VISIT_S + active * VISIT_BUNDLE_S
    between_s = (compute_s + management_s + visits_s) / max(1, visits)
    planned_s = _seconds(planned, gathers)
    read_s = planned_s / planned.requests if planned.requests else 0.0
    hidden, wait_s = overlap(planned_s, between_s, read_s, demands)
    demand_s = DEMAND_RATIO * (hidden * _seconds(left, gathers) + (1 - hidden) * _seconds(demand, gathers))
    drive_s = dense.ring_s + demand_s + hidden * planned_s
    alone_s = compute_s + management_s + visits_s
    wait_s += demands * dense.ring_read_s / 2 * min(1.0, dense.ring_s / alone_s)
    token_s = max(alone_s + demand_s + wait_s, drive_s)
    hits = sum(use.hits for use in uses)
    demanded_bundles = hidden * left.bundles + (1 - hidden) * demand.bundles
    demanded = demand.useful_bytes + hidden * (left.useful_bytes - demand.useful_bytes)
    preloaded = hidden * planned.useful_bytes
    read_bytes = hidden * (left.read_bytes + planned.read_bytes) + (1 - hidden) * demand.read_bytes
    requests = hidden * (left.requests + planned.requests) + (1 - hidden) * demand.requests
    return ActivePrediction(
        decode_s_per_token=token_s,
        io_s_per_token=drive_s,
        stall_s_per_token=token_s - compute_s - management_s,
        compute_s_per_token=compute_s,
        management_s_per_token=management_s,
        visits_s=visits_s,
        demand_s=demand_s,
        wait_s=token_s - alone_s - demand_s,
        active_bundles_per_token=active,
        active_bytes_per_token=sum(use.active_bytes for use in uses),
        hit_rate=hits / active if active else 1.0,
        preload_hit_rate=max(0.0, active - hits - demanded_bundles) / active if active else 0.0,
        demanded_bytes=demanded,
        preloaded_bytes=preloaded,
        ring_bytes=dense.ring_bytes,
        flash_bytes_per_token=dense.ring_bytes + read_bytes,
        reads_per_token=requests,
        read_amplification=read_bytes / (demanded + preloaded) if demanded + preloaded else 1.0,
        hidden_ratio=hidden,
        bottleneck=_bottleneck(token_s - alone_s, compute_s, management_s + visits_s),
    )


def overlap(planned_s: float, between_s: float, read_s: float, demands: int) -> tuple[float, float]:
    """(share of `planned_s` of the drive's time that passes unnoticed between `demands` demands, seconds that those
    wait for reads under way). The drive is free for `between_s` between two of them and reads are never cut short."""
    if not planned_s or not read_s or not demands:
        return 1.0, 0.0
    reads = math.ceil(between_s / read_s - 1e-9)
    room_s = demands * reads * read_s
    if not room_s:
        return 0.0, 0.0
    waits = demands * min(1.0, planned_s / room_s)
    return min(1.0, room_s / planned_s), waits * max(0.0, reads * read_s - between_s)


def gather_rates(rates: MachineRates, io_depth: int) -> GatherRates:
    """As measured; else by what the drive takes for its two smallest request sizes, and the constants' core time."""
    if rates.gathers is not None:
        return rates.gathers
    sizes = sorted({point.request_bytes for point in rates.flash.points})[:2]
    seconds = [request_seconds(rates.flash, [size], io_depth) for size in sizes]
    byte_s = seconds[0] / sizes[0]
    if len(sizes) > 1:
        byte_s = min(byte_s, max(0.0, (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])))
    read_s = max(GATHER_READ_S, seconds[0] - byte_s * sizes[0])
    return GatherRates(depth=io_depth, read_s=read_s, byte_s=byte_s, bundle_s=GATHER_BUNDLE_S)


def _seconds(reads: Reads, gathers: GatherRates) -> float:
    return gathers.seconds(reads.requests, reads.read_bytes, reads.bundles)


def _sum(parts: Sequence[Reads]) -> Reads:
    total = Reads()
    for part in parts:
        total = total.plus(part)
    return total


def _bottleneck(flash_s: float, compute_s: float, management_s: float) -> ActiveBottleneck:
    found: dict[ActiveBottleneck, float] = {"flash": flash_s, "compute": compute_s, "management": management_s}
    return max(found, key=lambda name: found[name])
