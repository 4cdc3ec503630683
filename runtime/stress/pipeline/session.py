"""A whole stress of the pipeline: the reader alone, then a cell for each time of computing, then the reader again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.job import JobPreparing
from tidemill.runtime.stress.job_processes import JobProcesses, JobsOutcome, Watcher
from tidemill.runtime.stress.pipeline.job import PipelineJob
from tidemill.runtime.stress.pipeline.scratch_model import scratch_model
from tidemill.runtime.stress.quantities import format_ns
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.report import Comparison, JobReport, StressReport, compare, make_report
from tidemill.runtime.tuning.machine import cpu_model, file_system
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

BOUND = "max(compute, bytes / rate)"
AUTO = (0.0, 0.5, 1.0, 2.0)  # of what reading a layer takes: both sides of the bound
ALONE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """`job`: without a model where `scratch` says how large one to make in `directory`, and with an arena of
    `arena_share` of the model where it has 0 bytes. `layer_ns`: a job for each; none: around the bound."""

    job: PipelineJob
    layer_ns: Sequence[int]
    arena_share: float
    scratch: int
    directory: Path


class PipelineSession:
    """`run` gives what there is when Ctrl-C ends it, and says so."""

    def __init__(self, plan: PipelinePlan, watcher: Watcher) -> None:
        self._plan = plan
        self._watcher = watcher
        self._reports: list[JobReport] = []
        self._alone: list[float] = []

    def run(self) -> StressReport:
        """Raises JobError, JobRefusedError, StorageError, NoScratchSpaceError; KeyboardInterrupt before a token."""
        interrupted = False
        with ExitStack() as stack:
            model = self._model(stack)
            manifest = load_manifest(model)
            job = msgspec.structs.replace(self._plan.job, model=str(model), arena_bytes=self._arena_bytes(manifest))
            try:
                interrupted = self._run_all(job, manifest)
            except KeyboardInterrupt:
                if not self._reports:
                    raise
                interrupted = True
            where = f"{format_size(sum(shard.bytes for shard in manifest.shards))} on {file_system(model)}"
        alone = sum(self._alone) / len(self._alone) if self._alone else 0.0
        reports = [_with_alone(report, alone) for report in self._reports]
        return make_report(
            "pipeline",
            reports,
            interrupted=interrupted,
            cpu=cpu_model(),
            comparisons=[found for report in reports if (found := _compare(report)) is not None],
            notes=[f"a model of {where}", *([f"the reader alone: {format_size(alone)}/s"] if alone else [])],
        )

    def _run_all(self, job: PipelineJob, manifest: Manifest) -> bool:
        """True when Ctrl-C ended it."""
        if self._measure_alone(job, manifest):
            return True
        for layer_ns in self._plan.layer_ns or _around(manifest, self._alone):
            consumer = msgspec.structs.replace(job.consumer, layer_ns=layer_ns)
            timed = msgspec.structs.replace(job, consumer=consumer, name=f"compute={format_ns(layer_ns)}")
            outcome = self._run_job(timed)
            self._reports += outcome.reports
            if outcome.interrupted:
                return True
        return self._measure_alone(job, manifest)

    def _measure_alone(self, job: PipelineJob, manifest: Manifest) -> bool:
        """The same reads, extents in their order, with nobody beside: of models that are read so. True when Ctrl-C
        ended it."""
        if manifest.layout != "dense":
            return False
        alone = ReaderJob(
            name="alone",
            files=(job.model,),
            block_bytes=None,
            iodepth=job.iodepth,
            load_mode=job.load_mode,
            direct=job.load_mode != "buffered",
            runtime_s=ALONE_S,
            time_based=True,
            verify=job.verify_reads,
            device=job.device,
        )
        outcome = self._run_job(alone)
        self._alone += [float(report.read.bw_bytes) for report in outcome.reports if report.read is not None]
        return outcome.interrupted

    def _run_job(self, job: PipelineJob | ReaderJob) -> JobsOutcome:
        with JobProcesses([job], self._watcher, threads=1) as processes:
            return processes.run()

    def _model(self, stack: ExitStack) -> Path:
        if self._plan.job.model:
            return Path(self._plan.job.model)

        def on_bytes(done: int, total: int) -> None:
            self._watcher.on_preparing(JobPreparing("writing a scratch model", done, total))

        return stack.enter_context(scratch_model(self._plan.directory, self._plan.scratch, on_bytes))

    def _arena_bytes(self, manifest: Manifest) -> int:
        whole = sum(extent.bytes for extent in manifest.extents)
        return self._plan.job.arena_bytes or int(self._plan.arena_share * whole)


def _around(manifest: Manifest, alone: Sequence[float]) -> Sequence[int]:
    """Times of computing a layer on both sides of what reading all of it takes; of models that are not read so, of what
    a drive of 1 GB/s takes."""
    rate = alone[0] if alone else 1e9
    layer_ns = manifest.bytes_of(manifest.layer_extents) / manifest.decoder.layer_count / rate * 1e9
    return [round(share * layer_ns) for share in AUTO]


def _with_alone(report: JobReport, alone: float) -> JobReport:
    if report.pipeline is None:
        return report
    return msgspec.structs.replace(report, pipeline=report.pipeline.with_alone(alone))


def _compare(report: JobReport) -> Comparison | None:
    found = report.pipeline
    if found is None or not found.tokens or not found.bound_ns:
        return None
    return compare(report.jobname, BOUND, "token_ns", [found.token_ns.mean], [found.bound_ns])
