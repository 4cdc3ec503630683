"""What a stress command found out, with fio's names and units wherever fio has one (3.x, `--output-format=json`).

Times are as fio's names say (`_ns`; `runtime`, `job_runtime` in ms, `elapsed` in s), `bw` is in KiB/s and `bw_bytes` in
bytes/s. What fio has no name for stands beside it under the verb's own.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from tidemill import __version__
from tidemill.runtime.stress.arena.job import ArenaFigures
from tidemill.runtime.stress.latency_stats import LatencyStats
from tidemill.runtime.stress.link.job import LinkFigures
from tidemill.runtime.stress.pipeline.job import PipelineFigures
from tidemill.runtime.stress.predictor.job import PredictorFigures
from tidemill.runtime.stress.rate_series import RateSample


class ReadReport(msgspec.Struct, frozen=True, kw_only=True):
    """slat: from the order until a thread of the device takes it; clat: from there until the actor answers; lat:
    both."""

    io_bytes: int
    io_kbytes: int
    bw_bytes: int
    bw: int
    iops: float
    runtime: int
    total_ios: int
    short_ios: int
    drop_ios: int
    slat_ns: LatencyStats
    clat_ns: LatencyStats
    lat_ns: LatencyStats
    bw_min: float
    bw_max: float
    bw_agg: float
    bw_mean: float
    bw_dev: float
    bw_samples: int
    iops_min: float
    iops_max: float
    iops_mean: float
    iops_stddev: float
    iops_samples: int

    def without_bins(self) -> "ReadReport":
        return msgspec.structs.replace(
            self,
            slat_ns=self.slat_ns.without_bins(),
            clat_ns=self.clat_ns.without_bins(),
            lat_ns=self.lat_ns.without_bins(),
        )


class MadeRead(msgspec.Struct, frozen=True, array_like=True):
    """One read as it went to a file."""

    shard: int
    offset: int
    size: int


class ReaderFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the reads were really made. `depth_mean`: reads under way on average (of gathers: gathers, each with many
    reads). `useful_bytes`: what was asked for; gathers read what lies between, too. `late_reads`, `late_ns`, `faults`:
    of an emulated drive, reads that the one below brought later than it would have, and what was put in."""

    load_mode_asked: str
    load_mode: str
    alignment_bytes: int
    depth: int
    depth_mean: float
    tickets: int
    arena_bytes: int
    verified: bool
    pattern: str
    useful_bytes: int
    orders: int
    retries: int
    failed: int
    first_failure: str
    device: str
    late_reads: int
    late_ns: int
    faults: int


class LoadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels that ran beside: their bytes per second, alone before and beside the load."""

    threads: int
    kernels: str
    alone_bytes_per_s: float
    beside_bytes_per_s: float


class JobReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job, or several of a group added up. `error`: 0, or errno 5 where something failed for good."""

    jobname: str
    groupid: int
    error: int
    elapsed: int
    options: Mapping[str, str] = msgspec.field(name="job options")
    job_runtime: int
    usr_cpu: float
    sys_cpu: float
    ctx: int
    majf: int
    minf: int
    read: ReadReport | None = None
    iodepth_level: Mapping[str, float] = {}
    latency_ns: Mapping[str, float] = {}
    latency_us: Mapping[str, float] = {}
    latency_ms: Mapping[str, float] = {}
    reader: ReaderFigures | None = None
    link: LinkFigures | None = None
    arena: ArenaFigures | None = None
    pipeline: PipelineFigures | None = None
    predictor: PredictorFigures | None = None
    compute_load: LoadFigures | None = None
    rate_log: tuple[RateSample, ...] = ()
    made: tuple[MadeRead, ...] = ()  # between processes alone

    @property
    def latencies(self) -> Sequence[tuple[str, LatencyStats]]:
        """What is worth a plot, with names."""
        if self.read is not None and self.read.lat_ns.N:
            return [(self.jobname, self.read.lat_ns)]
        if self.link is not None and self.link.round_trip_ns.N:
            pipe = self.link.pipe_round_trip_ns
            return [(self.jobname, self.link.round_trip_ns), *([(f"{self.jobname} pipe", pipe)] if pipe else [])]
        if self.arena is not None and self.arena.visit_ns.N:
            return [(self.jobname, self.arena.visit_ns)]
        if self.pipeline is not None and self.pipeline.token_ns.N:
            return [(self.jobname, self.pipeline.token_ns)]
        if self.predictor is not None and self.predictor.seen_ns.N:
            return [(self.jobname, self.predictor.seen_ns)]
        return []

    def without_bins(self) -> "JobReport":
        return msgspec.structs.replace(
            self,
            read=None if self.read is None else self.read.without_bins(),
            link=None if self.link is None else self.link.without_bins(),
            arena=None if self.arena is None else self.arena.without_bins(),
            pipeline=None if self.pipeline is None else self.pipeline.without_bins(),
            predictor=None if self.predictor is None else self.predictor.without_bins(),
        )


class Spread(msgspec.Struct, frozen=True, array_like=True):
    least: float
    median: float
    most: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The same thing done by a peer, in turns. `ratio` of each turn: ours over the peer's."""

    jobname: str
    peer: str
    figure: str
    rounds: int
    ours: Spread
    theirs: Spread
    ratio: Spread


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    cpu: str
    cores: int
    system: str


class StressReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    version: str = msgspec.field(name="tidemill version")
    timestamp: int
    timestamp_ms: int
    time: str
    verb: str
    interrupted: bool
    machine: Machine
    jobs: tuple[JobReport, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self, *, bins: bool) -> bytes:
        """`bins`: with the buckets of latencies, as fio's json+."""
        told = self if bins else msgspec.structs.replace(self, jobs=tuple(job.without_bins() for job in self.jobs))
        return msgspec.json.format(msgspec.json.encode(told), indent=2)


def make_report(
    verb: str,
    jobs: Sequence[JobReport],
    *,
    interrupted: bool,
    cpu: str,
    comparisons: Sequence[Comparison] = (),
    notes: Sequence[str] = (),
) -> StressReport:
    now = time.time()
    return StressReport(
        version=__version__,
        timestamp=int(now),
        timestamp_ms=int(now * 1000),
        time=time.ctime(now),
        verb=verb,
        interrupted=interrupted,
        machine=Machine(cpu=cpu, cores=os.cpu_count() or 1, system=f"{platform.system()} {platform.release()}"),
        jobs=tuple(jobs),
        comparisons=tuple(comparisons),
        notes=tuple(dict.fromkeys(notes)),
    )


def spread_of(values: Sequence[float]) -> Spread:
    return Spread(min(values), median(values), max(values))


def compare(jobname: str, peer: str, figure: str, ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """Of as many turns of each, at least one; a peer's 0 has no ratio and counts as infinitely much."""
    ratios = [mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)]
    return Comparison(
        jobname=jobname,
        peer=peer,
        figure=figure,
        rounds=len(ours),
        ours=spread_of(ours),
        theirs=spread_of(theirs),
        ratio=spread_of(ratios),
    )
