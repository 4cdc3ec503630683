"""An arena job: the arena actor visited token after token, its reads answered at once."""

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from tidemill.actors.actor import Send
from tidemill.actors.arena.actor import ArenaActor
from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.arena.residency.cache_demand import TableCache, warn_of_small_caches
from tidemill.actors.counters import Counter, new_counters
from tidemill.actors.messages import (
    BundlesPlaced,
    BundlesRead,
    CancelReads,
    GatherBundles,
    ReadsCancelled,
    VisitBundles,
    VisitEnded,
)
from tidemill.actors.packing import pack_ids
from tidemill.runtime.stress.arena.job import ArenaFigures, ArenaJob, PolicyName, choice_of, parse_arena_size
from tidemill.runtime.stress.arena.visits import Visits, make_visits
from tidemill.runtime.stress.job import JobSurroundings, Progress
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.rate_series import RateSeries
from tidemill.runtime.stress.report import JobReport
from tidemill.runtime.stress.usage import ProcessUsage, plain_report
from tidemill.storage.arena_plan import ArenaPlan, Ring
from tidemill.storage.bundle_plan import (
    READ_AHEAD_SHARE,
    BundlePlan,
    least_bundle_bytes,
    plan_bundles,
    whole_bundle_bytes,
)
from tidemill.storage.manifest import Manifest

TICKETS = 16
NS = 1_000_000_000


def run_arena(
    job: ArenaJob, surroundings: JobSurroundings, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> tuple[JobReport, ...]:
    """A report for each policy at each size; the last may be of what was done when it was stopped. Raises StorageError,
    ValueError."""
    surroundings.prepare("drawing visits" if job.trace is None else "reading the trace", 0, 0)
    visits = make_visits(job)
    plans = [(text, plan_size(text, visits.manifest)) for text in job.sizes]
    surroundings.await_go()
    reports: list[JobReport] = []
    for policy in job.policies:
        for size in plans:
            if surroundings.is_stopped():
                return tuple(reports)
            reports.append(_run_one(job, policy, size, visits, surroundings, clock_ns))
    return tuple(reports)


def plan_size(text: str, manifest: Manifest) -> BundlePlan:
    """What an arena of this size holds of each table, as decoding would divide it. Raises ValueError for one that a
    visit does not fit."""
    size, least = parse_arena_size(text, whole_bundle_bytes(manifest)), least_bundle_bytes(manifest)
    if size < least:
        raise ValueError(f"--size {text} is {size} bytes: the largest visit needs {least}; give more")
    return plan_bundles(manifest, size, 0, preload_share=READ_AHEAD_SHARE)


class ArenaRun:
    """One policy at one size."""

    def __init__(self, policy: PolicyName, plan: BundlePlan, visits: Visits, window: int) -> None:
        self.counters = new_counters()
        config = ArenaConfig(
            plan=_arena_plan(plan),
            tickets=TICKETS,
            residency=choice_of(policy, window),
            popularity=visits.popularity if policy == "hot-set" else {},
        )
        self.actor = ArenaActor(config, visits.manifest, self.counters)
        self._ended = [VisitEnded(request) for request in range(max(map(len, visits.tokens)))]
        self.visit_ns: list[int] = []
        self.busy_ns = 0  # of this thread's processor time
        self._answer(self.actor.start())

    def token(self, visits: Sequence[VisitBundles], now_ns: int) -> None:
        busy_from = time.thread_time_ns()
        for visit in visits:
            begun = time.perf_counter_ns()
            if not self._answer(self.actor.handle(visit, now_ns)):
                raise AssertionError("a visit whose reads were all answered was not placed")
            self._answer(self.actor.handle(self._ended[visit.request], now_ns))
            self.visit_ns.append(time.perf_counter_ns() - begun)
        self.busy_ns += time.thread_time_ns() - busy_from

    def _answer(self, sends: Sequence[Send]) -> bool:
        """Be the reader; whether a visit was placed."""
        placed = False
        waiting = list(sends)
        while waiting:
            message = waiting.pop().message
            if isinstance(message, GatherBundles):
                waiting += self.actor.handle(BundlesRead(pack_ids([message.ticket])), 0)
            elif isinstance(message, CancelReads):
                waiting += self.actor.handle(ReadsCancelled(message.tickets), 0)
            placed = placed or isinstance(message, BundlesPlaced)
        return placed


def _run_one(
    job: ArenaJob,
    policy: PolicyName,
    sized: tuple[str, BundlePlan],
    visits: Visits,
    surroundings: JobSurroundings,
    clock_ns: Callable[[], int],
) -> JobReport:
    size, plan = sized
    run = ArenaRun(policy, plan, visits, job.window)
    before, begun = ProcessUsage.now(), clock_ns()
    series, histogram = RateSeries(begun), LatencyHistogram()
    half = len(visits.tokens) // 2
    late = np.zeros(2, np.int64)
    done = 0
    while not surroundings.is_stopped():
        run.token(visits.tokens[done % len(visits.tokens)], done)
        done += 1
        if done == half:
            late = _used_and_hit(run)
        now = clock_ns()
        used = int(run.counters[Counter.BUNDLES_USED])
        if (sample := series.see(now, 0, used)) is not None:
            histogram.add(run.visit_ns)
            run.visit_ns.clear()
            surroundings.tell(_progress(job, (now - begun) / NS, sample.ios_per_s, histogram))
        over = done >= len(visits.tokens) if job.runtime_s is None else now - begun >= job.runtime_s * NS
        if over and done >= 2:
            break
    histogram.add(run.visit_ns)
    elapsed = clock_ns() - begun
    options = {"policy": policy, "size": size, "tokens": str(done), "pattern": visits.told}
    plain = plain_report(f"{policy}-{size}", options, elapsed, ProcessUsage.now().since(before))
    figures = _figures(run, plan, visits, done, (_used_and_hit(run) - late, histogram), policy)
    return msgspec.structs.replace(plain, arena=figures, rate_log=tuple(series.samples))


def _used_and_hit(run: ArenaRun) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array([run.counters[Counter.BUNDLES_USED], run.counters[Counter.BUNDLE_HITS]])


def _progress(job: ArenaJob, elapsed_s: float, bundles_per_s: float, histogram: LatencyHistogram) -> Progress:
    return Progress(
        elapsed_s=elapsed_s,
        expected_s=job.runtime_s or 0.0,
        bytes_per_s=0.0,
        ops_per_s=bundles_per_s,
        unit="bundles/s",
        p50_ns=histogram.percentile(50),
        p99_ns=histogram.percentile(99),
    )


def _figures(
    run: ArenaRun,
    plan: BundlePlan,
    visits: Visits,
    tokens: int,
    measured: tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", LatencyHistogram],
    policy: str,
) -> ArenaFigures:
    late, histogram = measured
    counts = run.actor.bundles.counts
    caches = list(_caches(plan, visits))
    tokens = max(1, tokens)
    used = max(1, counts.active)
    return ArenaFigures(
        policy=policy,
        arena_bytes=plan.arena_bytes,
        cache_share=plan.cached_share,
        demand_ratio=sum(cache.quota for cache in caches) / max(1, sum(cache.demand for cache in caches)),
        below_demand=warn_of_small_caches(caches) or "",
        tokens=tokens,
        visits=counts.visits,
        bundles=counts.active,
        hits=counts.hits,
        hit_rate=counts.hits / used,
        late_hit_rate=float(late[1] / max(1, late[0])),
        evicted_per_token=counts.evicted / tokens,
        admitted_per_token=counts.admitted / tokens,
        loaded_per_token=counts.missed / tokens,
        quota_moved=int(run.counters[Counter.QUOTA_MOVED]),
        management_ns=run.busy_ns / used,
        bundles_per_s=used / max(1, run.busy_ns) * NS,
        visit_ns=histogram.stats(),
    )


def _caches(plan: BundlePlan, visits: Visits) -> "Sequence[TableCache]":
    """What each layer's cache holds beside what a token uses of it."""
    tables = visits.manifest.tables
    return [
        TableCache(
            f"{tables[cached.table].role} of layer {tables[cached.table].layer + place}",
            cached.channels,
            min(1.0, visits.active.get((cached.table, place), 0.0) / cached.channels),
            quota,
        )
        for cached in plan.tables
        for place, quota in enumerate(cached.quotas)
    ]


def _arena_plan(bundles: BundlePlan) -> ArenaPlan:
    """An arena of nothing but single bundles."""
    return ArenaPlan(
        arena_bytes=bundles.arena_bytes,
        locked_extents=(),
        locked_offsets=(),
        rings=(Ring(0, 0, 0),),
        row_offset=0,
        row_slot_bytes=4096,
        row_slots=1,
        bundles=bundles,
    )
