"""One pipeline job: a whole cell whose compute actor takes its time, driven token by token."""

import time
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from tidemill.actors.compute.drafting.spec import DraftSpec
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import OpenSequence, RunStep, Sampling, StepFailed, TokensSampled
from tidemill.actors.packing import pack_tokens
from tidemill.runtime.cell_plan import plan_cell
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.draft_plan import DraftPlan
from tidemill.runtime.launchers.launcher import Launcher
from tidemill.runtime.ledger import Ledger
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.stress.job import JobSurroundings, Progress
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.pipeline.job import PipelineFigures, PipelineJob
from tidemill.runtime.stress.rate_series import RateSeries
from tidemill.runtime.stress.report import JobReport
from tidemill.runtime.stress.usage import ProcessUsage, plain_report
from tidemill.storage.arena_plan import ArenaTooSmallError, plan_arena
from tidemill.storage.bundle_plan import PRELOAD_SHARE, READ_AHEAD_SHARE
from tidemill.storage.devices.device import LOAD_MODES
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

GREEDY = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
RECEIVE_S = 0.1
TOKEN_DEADLINE_S = 120.0
CONTEXT = 4
NS = 1_000_000_000


def run_pipeline(job: PipelineJob, surroundings: JobSurroundings) -> JobReport:
    """Raises StorageError, ValueError, ActorDiedError; what a step fails of is part of the report."""
    manifest = load_manifest(Path(job.model))
    spec = plan_spec(job, manifest)
    with closing(_launcher(job)) as launcher:
        surroundings.prepare("starting actors", 0, 0)
        launcher.prepare([job.model], threads=1, consumes=True)
        launcher.start(spec)
        run = _Run(job, launcher, surroundings)
        run.warm_up()
        surroundings.await_go()
        return run.report(manifest, spec)


def plan_spec(job: PipelineJob, manifest: Manifest) -> CellSpec:
    """As a cell is planned whose ceiling leaves the arena so much. Raises ValueError for one that is too small."""
    share = READ_AHEAD_SHARE if job.preload == "none" else PRELOAD_SHARE
    try:
        arena = plan_arena(manifest, job.arena_bytes, preload_share=share)
    except ArenaTooSmallError as error:
        raise ValueError(f"--arena: {error}") from None
    options = EngineOptions(
        model=Path(job.model),
        ram_bytes=None,
        arena_bytes=job.arena_bytes,
        context=CONTEXT,
        threads=1,
        load_mode=job.load_mode,
        launcher=job.launcher,
        io_depth=job.iodepth,
        device=job.device,
        verify_reads=job.verify_reads,
        residency=job.residency,
        preload=job.preload,
    )
    plan = DraftPlan(Ledger(None, (), arena), DraftSpec(kinds=()))
    return msgspec.structs.replace(plan_cell(manifest, options, plan, {}, None), consumer=job.consumer)


def _launcher(job: PipelineJob) -> Launcher:
    if job.launcher == "in-process":
        from tidemill.runtime.launchers.in_process import InProcessLauncher

        return InProcessLauncher()
    from tidemill.runtime.launchers.local import LocalLauncher

    return LocalLauncher()


class _Run:
    def __init__(self, job: PipelineJob, launcher: Launcher, surroundings: JobSurroundings) -> None:
        self._job = job
        self._launcher = launcher
        self._surroundings = surroundings
        self._step = 0
        self._failed = ""
        self._histogram = LatencyHistogram()
        self._answers: list[TokensSampled] = []

    def warm_up(self) -> None:
        """What is locked is loaded by the first steps; single bundles are read whole by the first alone."""
        self._launcher.send(OpenSequence(0, GREEDY))
        for start in (0, 1):
            if not self._failed:
                self._token(start)

    def report(self, manifest: Manifest, spec: CellSpec) -> JobReport:
        job, counters = self._job, self._launcher.counters
        before, used = counters.copy(), ProcessUsage.now()
        begun = time.perf_counter_ns()
        series = RateSeries(begun)
        while not self._is_over(begun):
            answer = self._token(1)
            if answer is None:
                break
            self._answers.append(answer)
            self._histogram.add([answer.elapsed_ns])
            self._tell(series, begun, counters - before)
        elapsed = time.perf_counter_ns() - begun
        error = 5 if self._failed else 0
        plain = plain_report(job.name, _options(job), elapsed, ProcessUsage.now().since(used), error=error)
        figures = self._figures(manifest, spec, elapsed, counters - before)
        return msgspec.structs.replace(plain, pipeline=figures, rate_log=tuple(series.samples))

    def _is_over(self, begun_ns: int) -> bool:
        job = self._job
        late = job.runtime_s is not None and time.perf_counter_ns() - begun_ns >= job.runtime_s * NS
        done = job.tokens is not None and len(self._answers) >= job.tokens
        return bool(self._answers and (late or done)) or bool(self._failed) or self._surroundings.is_stopped()

    def _token(self, start: int) -> TokensSampled | None:
        """One step of one position; None when it failed, or nobody waits for it any more."""
        self._step += 1
        self._launcher.send(RunStep(self._step, 0, start, pack_tokens([0]), True))
        until = time.monotonic() + TOKEN_DEADLINE_S
        while time.monotonic() < until:
            if self._surroundings.is_stopped():
                return None
            for message in self._launcher.receive(RECEIVE_S):
                if isinstance(message, TokensSampled) and message.step == self._step:
                    return message
                if isinstance(message, StepFailed):
                    self._failed = message.what
                    return None
        raise TimeoutError(f"a token took more than {TOKEN_DEADLINE_S:.0f} s: the drive is too slow or hangs")

    def _tell(self, series: RateSeries, begun_ns: int, counted: Counters) -> None:
        now = time.perf_counter_ns()
        sample = series.see(now, int(counted[Counter.FLASH_BYTES]), len(self._answers))
        if sample is None:
            return
        self._surroundings.tell(
            Progress(
                elapsed_s=(now - begun_ns) / NS,
                expected_s=self._job.runtime_s or 0.0,
                bytes_per_s=sample.bytes_per_s,
                ops_per_s=sample.ios_per_s,
                unit="tokens/s",
                p50_ns=self._histogram.percentile(50),
                p99_ns=self._histogram.percentile(99),
            )
        )

    def _figures(self, manifest: Manifest, spec: CellSpec, elapsed_ns: int, counted: Counters) -> PipelineFigures:
        tokens = max(1, len(self._answers))
        compute, stall, whole = (
            float(np.sum([getattr(answer, name) for answer in self._answers])) / tokens
            for name in ("compute_ns", "stall_ns", "elapsed_ns")
        )
        plan = spec.arena.plan
        return PipelineFigures(
            tokens=len(self._answers),
            layout=manifest.layout,
            arena_bytes=plan.arena_bytes,
            locked_bytes=sum(manifest.extents[i].bytes for i in plan.locked_extents),
            token_ns=self._histogram.stats(),
            compute_ns=compute,
            stall_ns=stall,
            management_ns=max(0.0, whole - compute - stall),
            stall_share=stall / whole if whole else 0.0,
            flash_bytes_per_token=int(counted[Counter.FLASH_BYTES]) / tokens,
            flash_bytes_per_s=int(counted[Counter.FLASH_BYTES]) / max(1, elapsed_ns) * NS,
            busy_share=min(1.0, int(counted[Counter.FLASH_BUSY_NS]) / max(1, elapsed_ns)),
            busy_ns=int(counted[Counter.FLASH_BUSY_NS]) / tokens,
            load_mode=LOAD_MODES[int(self._launcher.counters[Counter.LOAD_MODE])],
            hit_rate=int(counted[Counter.BUNDLE_HITS]) / max(1, int(counted[Counter.BUNDLES_USED])),
            failed=self._failed,
        )


def _options(job: PipelineJob) -> dict[str, str]:
    consumer = job.consumer
    return {
        "model": job.model,
        "compute": f"{consumer.layer_ns / 1000:g}us",
        "arena": str(job.arena_bytes),
        "iodepth": str(job.iodepth),
        "launcher": job.launcher,
        "device": "drive" if job.device is None else job.device.text,
        "verify": str(int(job.verify_reads)),
    }
