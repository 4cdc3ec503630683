"""A whole stress of the reader: every point of a sweep, in turns with fio if that is asked for, to one report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import msgspec

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.compute_load import LoadJob
from tidemill.runtime.stress.fio_numbers import parse_size
from tidemill.runtime.stress.job import Job, JobPreparing
from tidemill.runtime.stress.job_processes import JobProcesses, JobsOutcome, Watcher
from tidemill.runtime.stress.read_report import group_jobs
from tidemill.runtime.stress.reader.fio_peer import FioRead, replay_fio, require_fio, run_fio
from tidemill.runtime.stress.reader.job import ReaderJob, check_job
from tidemill.runtime.stress.reader.targets import is_model
from tidemill.runtime.stress.reader.traced_rows import scratch_bundles
from tidemill.runtime.stress.report import Comparison, JobReport, StressReport, compare, make_report
from tidemill.runtime.stress.scratch import scratch_file
from tidemill.runtime.tuning.machine import cpu_model, file_system
from tidemill.storage.manifest_file import load_manifest

SWEPT = ("iodepth", "bs", "numjobs", "rw", "scatter", "queue")
MADE_MAX = 200_000  # reads that fio is told to repeat
FIGURES = ("bw_bytes", "clat_p50_ns", "clat_p99_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPlan:
    """`job`: without files where `scratch` says how large a file to make in `directory`. `sweeps`: option -> values.
    `rounds`: how often each point is measured, in turns with fio where `vs_fio`."""

    job: ReaderJob
    numjobs: int
    sweeps: Sequence[tuple[str, Sequence[str]]] = ()
    load_threads: int = 0
    vs_fio: bool = False
    rounds: int = 1
    grouped: bool = False
    scratch: int = 0
    directory: Path = field(default_factory=Path)

    def points(self) -> Sequence[tuple[ReaderJob, int]]:
        """(job, numjobs) of each point of the sweep. Raises ValueError for what cannot be swept, or a bad value."""
        for name, _ in self.sweeps:
            if name not in SWEPT:
                raise ValueError(f"--sweep {name} is not known, accepted: {', '.join(SWEPT)}")
        names = [name for name, _ in self.sweeps]
        if self.job.sealed and "bs" in names:
            raise ValueError("--sweep bs: the bundles of a scratch file have one size; give --bs, a run for each")
        chosen = [dict(zip(names, values, strict=True)) for values in product(*(v for _, v in self.sweeps))]
        return [self._point(values) for values in chosen]

    def _point(self, values: Mapping[str, str]) -> tuple[ReaderJob, int]:
        changes: dict[str, object] = {}
        for name, text in values.items():
            try:
                changes["block_bytes" if name == "bs" else name] = (
                    parse_size(text) if name == "bs" else text if name == "rw" else int(text)
                )
            except ValueError:
                raise ValueError(f"--sweep {name}={text}: {text!r} is no value of it") from None
        numjobs = int(str(changes.pop("numjobs", self.numjobs)))
        told = "-".join(f"{name}={value}" for name, value in values.items())
        job = msgspec.structs.replace(self.job, name=told or self.job.name, **changes)
        return check_job(job, numjobs), numjobs


class ReaderSession:
    """`run` gives what there is when Ctrl-C ends it, and says so."""

    def __init__(self, plan: ReaderPlan, watcher: Watcher) -> None:
        """Raises ValueError for points that cannot be, FioError."""
        self._plan = plan
        self._watcher = watcher
        self._points = plan.points()
        self._peer = require_fio() if plan.vs_fio else ""
        if plan.vs_fio and plan.job.device is not None:
            raise ValueError("--vs-fio reads the drive as it is: leave --device out")
        if plan.vs_fio and any(numjobs > 1 and not _is_fios(job) for job, numjobs in self._points):
            raise ValueError("--vs-fio repeats the very reads of one job here: leave --numjobs out")
        self._jobs: list[JobReport] = []
        self._comparisons: list[Comparison] = []
        self._notes: list[str] = []

    def run(self) -> StressReport:
        """Raises JobError, JobRefusedError, StorageError, NoScratchSpaceError; KeyboardInterrupt before anything was
        read."""
        interrupted = False
        with ExitStack() as stack:
            files = self._files(stack)
            try:
                for job, numjobs in self._points:
                    interrupted = self._run_point(msgspec.structs.replace(job, files=files), numjobs)
                    if interrupted:
                        break
            except KeyboardInterrupt:
                if not self._jobs:
                    raise
                interrupted = True
        return make_report(
            "reader",
            self._jobs,
            interrupted=interrupted,
            cpu=cpu_model(),
            comparisons=self._comparisons,
            notes=self._notes,
        )

    def _files(self, stack: ExitStack) -> tuple[str, ...]:
        plan = self._plan
        if plan.job.files:
            self._notes.append(f"{len(plan.job.files)} files on {file_system(Path(plan.job.files[0]))}")
            return plan.job.files
        size, bundle_bytes = plan.scratch, plan.job.block_bytes if plan.job.sealed else 0
        if plan.job.trace is not None:
            size = scratch_bundles(Path(plan.job.trace)) * (bundle_bytes or 0)

        def on_bytes(done: int) -> None:
            self._watcher.on_preparing(JobPreparing("writing a scratch file", done, size))

        path = stack.enter_context(scratch_file(plan.directory, size, on_bytes, bundle_bytes=bundle_bytes or 0))
        self._notes.append(f"a scratch file of {format_size(size)} on {file_system(plan.directory)}, removed again")
        return (str(path),)

    def _run_point(self, job: ReaderJob, numjobs: int) -> bool:
        """True when Ctrl-C ended it."""
        ours: list[JobReport] = []
        theirs: list[FioRead] = []
        interrupted = False
        try:
            if self._plan.vs_fio and self._run_jobs(job, numjobs).interrupted:
                return True  # warming up, uncounted: caches below then know what either reads
            for turn in range(self._plan.rounds):
                for who in _order(turn, with_peer=self._plan.vs_fio):
                    if who == "fio":
                        theirs.append(self._run_peer(job, numjobs, ours))
                        continue
                    outcome = self._run_jobs(job, numjobs)
                    ours.append(self._keep(outcome, is_first=not ours))
                    if outcome.interrupted:
                        interrupted = True
                        return True
        except KeyboardInterrupt:
            if not ours:
                raise
            interrupted = True
        finally:
            self._compare(job.name, ours, theirs)
        return interrupted

    def _run_jobs(self, job: ReaderJob, numjobs: int) -> JobsOutcome:
        kept = MADE_MAX if self._plan.vs_fio and not _is_fios(job) else 0
        jobs: list[Job] = [
            msgspec.structs.replace(job, seed=job.seed + number, reads_kept=kept) for number in range(numjobs)
        ]
        if self._plan.load_threads:
            jobs.append(LoadJob(self._plan.load_threads))
        with JobProcesses(jobs, self._watcher, threads=max(1, self._plan.load_threads)) as processes:
            return processes.run()

    def _keep(self, outcome: JobsOutcome, *, is_first: bool) -> JobReport:
        """Of several rounds the report shows the first whole; the comparison has them all."""
        reports = [msgspec.structs.replace(report, compute_load=outcome.load) for report in outcome.reports]
        if is_first:
            shown = [group_jobs(reports)] if self._plan.grouped else reports
            groupid = len({job.groupid for job in self._jobs})
            self._jobs += [msgspec.structs.replace(job, groupid=groupid, made=()) for job in shown]
        return group_jobs(reports)

    def _run_peer(self, job: ReaderJob, numjobs: int, ours: Sequence[JobReport]) -> FioRead:
        if _is_fios(job):
            return run_fio(job, numjobs)
        return replay_fio(job, _paths(job), ours[-1].made)

    def _compare(self, name: str, ours: Sequence[JobReport], theirs: Sequence[FioRead]) -> None:
        reads = [job.read for job in ours if job.read is not None]
        turns = min(len(reads), len(theirs))
        for figure in FIGURES if turns else ():
            mine = [float(r.bw_bytes if figure == "bw_bytes" else _clat(r.clat_ns.percentile, figure)) for r in reads]
            peers = [float(getattr(read, figure)) for read in theirs]
            self._comparisons.append(compare(name, self._peer, figure, mine[:turns], peers[:turns]))


def _order(turn: int, *, with_peer: bool) -> Iterator[str]:
    """A B, then B A: what drifts meets both alike."""
    order = ("ours", "fio") if turn % 2 == 0 else ("fio", "ours")
    return iter(order if with_peer else ("ours",))


def _is_fios(job: ReaderJob) -> bool:
    """Whether fio has options for this pattern; else it repeats the reads that were made."""
    return not job.is_gather and job.block_bytes is not None and not is_model(job.files)


def _paths(job: ReaderJob) -> Sequence[str]:
    if not is_model(job.files):
        return job.files
    return [str(Path(job.files[0]) / shard.file) for shard in load_manifest(Path(job.files[0])).shards]


def _clat(percentile: Mapping[str, int], figure: str) -> int:
    return percentile.get("50.000000" if figure == "clat_p50_ns" else "99.000000", 0)
