"""The model of time and memory of decoding with active weights only: ActiveFlow's Eq. 1-9 with measured rates. Pure.

The paper (arXiv 2504.08378 v2), with sp sparsity, hr hit rate, si similarity, S_l a layer's bytes, N layers a group:

    T_overlap = T_onload + max(T_preload, T_comp)       T_onload = S_l (1-sp)(1-hr)(1-si) / BW_small
    T_preload = M_cl (1-hr) / BW_large                  M_cl     = S_l (1-sp) N

What is corrected here, and why:

- Every group has its own overlap. A group's preload is read while the group before it computes, in what its demands
  leave of the device; the part that isn't read by then, a share 1 - f, is not waited for but demanded, in small reads.
- A preload that is right with precision p takes recall / p of the missing bytes, not all of them.
- A demand waits for the preload reads under way. As the device is free when a demand has been served, compute and
  preload begin together then, so in the time t of compute between two demands n = ⌈t / chunk time⌉ reads are begun.
- Group 0 cannot be predicted: it is locked, all channels of it, and counts as memory instead of T_load.
- KV cache, activations, everything that is resident, and the preloaded group's buffers count against the ceiling.
- Requests cost what the device takes for their size: a demand reads one bundle, a preload N bundles of a channel.

With A = S_l (1-sp), m = A (1-hr) the missing bytes of a layer, r recall, p precision, and per group of N layers:

    T_comp = N (A / kernel rate + layer overhead)       V = N m r / p         f = min(1, demands · n chunk / V)
    T_demand = N m (1 - f r) / BW_small                 T_wait = f V / (n chunk) · (n chunk time - t)
    T_token = Σ groups (T_comp + T_demand + T_wait + T_management) + fixed
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tidemill.runtime.planning.interpolation import request_seconds, weight_rate
from tidemill.runtime.planning.rates import MachineRates


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveShape:
    """A model as active-weight decoding sees it. Sizes in bytes. `layer_bytes`: weights of one layer that are selected
    from; `bundle_bytes`: one channel of one operator in one layer, on average; `resident_bytes`: whatever stays in DRAM
    apart from layers: norms, embedding, head, and what the processes weigh. `fixed_s` is spent once a token: the head,
    attention, sampling. `layer_overhead_s`: norms, calls and messages of a layer."""

    layer_count: int
    layer_bytes: int
    bundle_bytes: int
    kind: str  # of the kernels' weights
    resident_bytes: int
    kv_bytes: int
    activation_bytes: int
    fixed_s: float
    layer_overhead_s: float
    demands_per_layer: int  # inputs that become known one after another


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveBehaviour:
    """What was measured of a model at one sparsity. `hit_rates`: points (share of the layers' weights that the cache
    holds, share of the active bytes found there), shares rising. `recalls` and `precisions`: of a layer group, by N,
    among what the cache lacks. `merged`: bundles that one demand reads at once, on average."""

    sparsity: float
    hit_rates: tuple[tuple[float, float], ...]
    recalls: Mapping[int, float]
    precisions: Mapping[int, float]
    merged: float

    def hit_rate(self, cache_share: float) -> float:
        shares, rates = zip(*self.hit_rates, strict=True)
        return float(np.interp(cache_share, shares, rates))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveChoice:
    """What is free to choose. `preload_share`: of the predicted bytes, those that are preloaded (0: no prefetch)."""

    group: int
    cache_share: float
    preload_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCosts:
    """Core time that isn't the kernels': for each request, and for each layer's bookkeeping of slots."""

    request_s: float
    layer_s: float
    io_depth: int
    preload_request_bytes: int  # neighbouring channels are read together up to this


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePrediction:
    """Seconds of one token, in parts that add up, and what it takes."""

    compute_s: float
    on_demand_s: float
    preload_s: float  # that demands wait for preloads under way
    management_s: float
    fixed_s: float
    memory_bytes: int
    on_demand_bytes: float
    preload_bytes: float
    hidden_ratio: float  # of the preload that is read while the group before computes

    @property
    def token_s(self) -> float:
        return self.compute_s + self.on_demand_s + self.preload_s + self.management_s + self.fixed_s


def predict_active(
    shape: ActiveShape, behaviour: ActiveBehaviour, choice: ActiveChoice, rates: MachineRates, costs: ActiveCosts
) -> ActivePrediction:
    """Raises ValueError for a choice out of range or a group size that nothing was measured of."""
    _check(shape, behaviour, choice)
    active = shape.layer_bytes * (1 - behaviour.sparsity)
    missing = active * (1 - behaviour.hit_rate(choice.cache_share))
    recall = behaviour.recalls[choice.group] * choice.preload_share
    planned = missing * recall / behaviour.precisions[choice.group]
    demand_read = _bundle_run(shape, behaviour.merged)
    preload_read = max(shape.bundle_bytes * choice.group, costs.preload_request_bytes)
    demand_rate = _request_rate(rates, demand_read, costs.io_depth)
    preload_rate = _request_rate(rates, preload_read, costs.io_depth)
    layer_s = active / weight_rate(rates.kernels, shape.kind) + shape.layer_overhead_s
    hidden, wait_s = _overlap(planned, layer_s / shape.demands_per_layer, preload_read, preload_rate, shape)
    preloaded = planned * hidden
    demanded = missing * (1 - recall * hidden)
    requests = demanded / demand_read + preloaded / preload_read
    streamed = shape.layer_count - min(choice.group, shape.layer_count)
    return ActivePrediction(
        compute_s=layer_s * shape.layer_count,
        on_demand_s=streamed * demanded / demand_rate,
        preload_s=streamed * wait_s if demanded else 0.0,
        management_s=streamed * (requests * costs.request_s + costs.layer_s),
        fixed_s=shape.fixed_s,
        memory_bytes=round(_memory(shape, choice, missing, planned)),
        on_demand_bytes=streamed * demanded,
        preload_bytes=streamed * preloaded,
        hidden_ratio=hidden,
    )


def _overlap(
    planned: float, between_s: float, read_bytes: float, rate: float, shape: ActiveShape
) -> tuple[float, float]:
    """(share of the `planned` bytes of a layer that is read in time, seconds that its demands wait for that).
    `between_s`: compute between two demands, in which the device is free."""
    read_s = read_bytes / rate
    reads = math.ceil(between_s / read_s - 1e-9)
    room = shape.demands_per_layer * reads * read_bytes
    if not planned or not room:
        return 1.0, 0.0
    waits = shape.demands_per_layer * min(1.0, planned / room)
    return min(1.0, room / planned), waits * max(0.0, reads * read_s - between_s)


def _memory(shape: ActiveShape, choice: ActiveChoice, missing: float, planned: float) -> float:
    """Group 0 whole, the cache of the others, what it lacks of the present group, and the next group's preload."""
    group = min(choice.group, shape.layer_count)
    streamed_bytes = (shape.layer_count - group) * shape.layer_bytes
    fixed = shape.resident_bytes + shape.kv_bytes + shape.activation_bytes + group * shape.layer_bytes
    in_flight = group * (missing + planned) if shape.layer_count > group else 0.0
    return fixed + streamed_bytes * choice.cache_share + in_flight


def _bundle_run(shape: ActiveShape, merged: float) -> float:
    return shape.bundle_bytes * max(1.0, merged)


def _request_rate(rates: MachineRates, size: float, depth: int) -> float:
    whole = max(1, round(size))
    return whole / request_seconds(rates.flash, [whole], depth)


def _check(shape: ActiveShape, behaviour: ActiveBehaviour, choice: ActiveChoice) -> None:
    if not 0 <= choice.cache_share <= 1 or not 0 <= choice.preload_share <= 1:
        raise ValueError(f"{choice}: expected shares of 0 to 1")
    if choice.group < 1 or choice.group not in behaviour.recalls or choice.group not in behaviour.precisions:
        raise ValueError(
            f"layer groups of {choice.group}: recall and precision were measured for N in {sorted(behaviour.recalls)}; "
            "measure this one too (benchmarks/prediction_recall.py --groups)"
        )
    if shape.layer_count < 1 or not 0 <= behaviour.sparsity < 1:
        raise ValueError(f"{shape.layer_count} layers at sparsity {behaviour.sparsity}: expected ≥ 1, and 0 up to 1")
