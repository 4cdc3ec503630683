"""A decode pipeline as discrete events: one device, one compute thread, a preloader. Slow, small and exact, to hold
the planner's equations and the prefetch gate against.

Per token every layer has `demands` points at which its next input becomes known: what of it is neither cached nor
preloaded is read at once, and compute waits. Between these points compute is busy and the device takes chunks of the
next group's preload, which demands don't interrupt, only overtake. What of a preload hasn't begun when its group is
entered is cancelled. Group 0 is locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.actors.arena.prefetch_gate import DeviceLoad, PrefetchGate


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    layers: int
    group: int
    active_bytes: float  # of a layer, as selected
    hit_rate: float
    recall: float  # of what the cache lacks
    precision: float
    demand_rate: float
    preload_rate: float
    chunk_bytes: float
    compute_s: float  # of a layer
    fixed_s: float = 0.0  # of a token: head, sampling
    demands: int = 4
    chunk_core_s: float = 0.0  # that compute loses for each chunk that is read
    pollution: float = 0.0  # bytes that must be demanded again for each wasted one: what it took the place of
    jitter: float = 0.0  # relative, of hit rate's complement and of recall, from layer to layer


class PipelineRun:
    def __init__(self, pipeline: Pipeline, *, preload: bool, gate: PrefetchGate | None, seed: int) -> None:
        self._pipe = pipeline
        self._preload = preload
        self._gate = gate
        self._random = np.random.default_rng(seed)
        self._now = self._device_free = 0.0
        self._demand_s = self._queued = self._planned = self._issued_at = self._busy_ratio = 0.0
        self._polluted = self._begun = 0.0

    def tokens(self, count: int) -> Sequence[float]:
        """Seconds of each."""
        return [self._token() for _ in range(count)]

    def _token(self) -> float:
        begun = self._begun = self._now
        self._demand_s = 0.0
        self._queue(preload=False)
        for start in range(0, self._pipe.layers, self._pipe.group):
            loaded = self._enter_group(last=start + self._pipe.group >= self._pipe.layers)
            for _ in range(start, min(start + self._pipe.group, self._pipe.layers)):
                self._layer(0.0 if start == 0 else 1.0, loaded)
        self._now += self._pipe.fixed_s
        seconds = self._now - begun
        self._busy_ratio = self._demand_s / seconds
        if self._gate is not None:
            self._gate.token_ended(seconds)
        return seconds

    def _enter_group(self, *, last: bool) -> float:
        """The share of this group's preload that was read in time; the next group's is queued."""
        self._advance(self._now)
        done = 0.0 if not self._planned else 1 - self._queued / self._planned
        useful = done * self._planned * self._pipe.precision
        wasted = done * self._planned - useful
        self._polluted = wasted * self._pipe.pollution / self._pipe.group / self._pipe.demands
        if self._gate is not None:
            self._gate.count_useful(int(useful))
            self._gate.count_wasted(int(wasted))
        if self._device_free > self._now and self._planned:
            self._now = self._device_free  # the chunk under way is this group's: it is waited for
        self._queue(preload=self._preload and not last)
        return done

    def _queue(self, *, preload: bool) -> None:
        missing = self._pipe.group * self._pipe.active_bytes * (1 - self._pipe.hit_rate)
        self._planned = self._queued = missing * self._pipe.recall / self._pipe.precision if preload else 0.0
        self._issued_at = self._now

    def _layer(self, streamed: float, loaded: float) -> None:
        for _ in range(self._pipe.demands):
            missing = self._pipe.active_bytes / self._pipe.demands * (1 - self._pipe.hit_rate) * self._vary()
            recall = min(1.0, self._pipe.recall * self._vary())
            self._demand(streamed * (missing * (1 - recall * loaded) + self._polluted))
            self._compute(self._pipe.compute_s / self._pipe.demands)

    def _vary(self) -> float:
        return max(0.0, 1 + self._pipe.jitter * float(self._random.standard_normal()))

    def _demand(self, size: float) -> None:
        if size > 0:
            self._advance(self._now)
            begun = self._now
            self._now = self._device_free = max(self._now, self._device_free) + size / self._pipe.demand_rate
            self._demand_s += self._now - begun

    def _compute(self, seconds: float) -> None:
        """Chunks that begin meanwhile take their core time from it."""
        chunks = self._advance(self._now + seconds)
        self._now += seconds + chunks * self._pipe.chunk_core_s

    def _advance(self, until: float) -> int:
        """Chunks that begin before `until`."""
        chunks = 0
        at = max(self._device_free, self._issued_at)
        while self._queued > 0 and at < until and self._may_read(at):
            size = min(self._pipe.chunk_bytes, self._queued)
            self._queued = max(0.0, self._queued - size)
            at += size / self._pipe.preload_rate
            self._device_free = at
            chunks += 1
        return chunks

    def _may_read(self, now: float) -> bool:
        load = DeviceLoad(
            demands_waiting=0,
            preload_in_flight_bytes=0,
            busy_ratio=self._busy_ratio,
            token_s=now - self._begun,
        )
        return self._gate is None or self._gate.allowed_bytes(load) > 0
