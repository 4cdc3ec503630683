"""A predictor job: the predictor actor told of inputs token after token, its preloads held against what was used."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import InputSeen, PreloadBundles
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.actors.predictor.actor import PredictorActor
from tidemill.actors.predictor.config import PredictorConfig, PreloadConfig, PreloadKind, PreloadTable
from tidemill.runtime.stress.job import JobSurroundings, Progress
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.predictor.inputs import Input, Inputs, make_inputs
from tidemill.runtime.stress.predictor.job import PredictorFigures, PredictorJob
from tidemill.runtime.stress.rate_series import RateSeries
from tidemill.runtime.stress.report import JobReport
from tidemill.runtime.stress.usage import ProcessUsage, plain_report

NS = 1_000_000_000


def run_predictor(
    job: PredictorJob, surroundings: JobSurroundings, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> tuple[JobReport, ...]:
    """A report for each policy; the last may be of what was done when it was stopped. Raises StorageError,
    ValueError."""
    surroundings.prepare("drawing inputs" if job.trace is None else "reading the trace", 0, 0)
    inputs = make_inputs(job)
    messages = [[_message(inputs.tables[one.table], one) for one in token] for token in inputs.tokens]
    surroundings.await_go()
    reports: list[JobReport] = []
    for policy in job.policies:
        if surroundings.is_stopped():
            break
        reports.append(_run_one(job, policy, inputs, messages, surroundings, clock_ns))
    return tuple(reports)


def _message(table: PreloadTable, one: Input) -> InputSeen:
    bundles = one.active * np.uint32(table.layers) + np.uint32(one.layer - table.layer)
    values = b"" if one.values is None else one.values.astype("<f4").tobytes()
    return InputSeen(0, table.table, one.layer, pack_ids(bundles), values)


@dataclass(slots=True)
class Tally:
    """Of visits that something could be known of beforehand."""

    used: int = 0
    named: int = 0
    both: int = 0
    blind: float = 0.0  # what drawing as many blindly finds
    used_by_input: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    both_by_input: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, kind: str, active: int, named: int, both: int, channels: int) -> None:
        self.used += active
        self.named += named
        self.both += both
        self.blind += named * active / channels
        self.used_by_input[kind] += active
        self.both_by_input[kind] += both


class PredictorRun:
    """One policy. What was named of a layer counts until that layer's visit."""

    def __init__(self, policy: PreloadKind, share: float, inputs: Inputs) -> None:
        preload = PreloadConfig(tables=inputs.tables, layer_count=inputs.layer_count, kind=policy, share=share)
        self._actor = PredictorActor(PredictorConfig(layer_ranges=(), head_range=(0, 0), preload=preload))
        self._tables = inputs.tables
        self._named: list[npt.NDArray[np.bool_]] = [np.zeros((t.channels, t.layers), np.bool_) for t in inputs.tables]
        self.tally = Tally()
        self.seen_ns: list[int] = []
        self.busy_ns = 0  # of this thread's processor time, in the actor
        self.inputs = 0
        self.total_named = 0

    def see(self, one: Input, message: InputSeen, now_ns: int) -> None:
        """The visit comes first: nothing that is named by its own input is of use to it."""
        self._visit(one)
        begun, busy_from = time.perf_counter_ns(), time.thread_time_ns()
        sends = self._actor.handle(message, now_ns)
        self.busy_ns += time.thread_time_ns() - busy_from
        self.seen_ns.append(time.perf_counter_ns() - begun)
        self.inputs += 1
        for _, preload in sends:
            if isinstance(preload, PreloadBundles):
                ids = unpack_ids(preload.bundles)
                self._named[preload.table].reshape(-1)[ids] = True
                self.total_named += ids.size

    def _visit(self, one: Input) -> None:
        table = self._tables[one.table]
        named = self._named[one.table][:, one.layer - table.layer]
        if table.layer > 0:  # nothing of a token is known before its first layers
            both = int(np.count_nonzero(named[one.active]))
            self.tally.add(table.kind, one.active.size, int(np.count_nonzero(named)), both, table.channels)
        named[:] = False


def _run_one(
    job: PredictorJob,
    policy: PreloadKind,
    inputs: Inputs,
    messages: list[list[InputSeen]],
    surroundings: JobSurroundings,
    clock_ns: Callable[[], int],
) -> JobReport:
    run = PredictorRun(policy, job.share, inputs)
    before, begun = ProcessUsage.now(), clock_ns()
    series, histogram = RateSeries(begun), LatencyHistogram()
    done = 0
    while not surroundings.is_stopped():
        token = done % len(messages)
        for one, message in zip(inputs.tokens[token], messages[token], strict=True):
            run.see(one, message, done)
        done += 1
        now = clock_ns()
        if (sample := series.see(now, 0, run.inputs)) is not None:
            histogram.add(run.seen_ns)
            run.seen_ns.clear()
            p50, p99 = histogram.percentile(50), histogram.percentile(99)
            elapsed_s = (now - begun) / NS
            surroundings.tell(Progress(elapsed_s, job.runtime_s or 0.0, 0.0, sample.ios_per_s, "inputs/s", p50, p99))
        over = done >= len(messages) if job.runtime_s is None else now - begun >= job.runtime_s * NS
        if over:
            break
    histogram.add(run.seen_ns)
    options = {"policy": policy, "share": f"{job.share:g}", "group": str(job.group), "pattern": inputs.told}
    used = ProcessUsage.now().since(before)
    plain = plain_report(policy, options, clock_ns() - begun, used)
    figures = _figures(policy, run, done, histogram)
    return msgspec.structs.replace(plain, predictor=figures, rate_log=tuple(series.samples))


def _figures(policy: str, run: PredictorRun, tokens: int, histogram: LatencyHistogram) -> PredictorFigures:
    tally, busy = run.tally, max(1, run.busy_ns)
    return PredictorFigures(
        policy=policy,
        tokens=tokens,
        inputs=run.inputs,
        used=tally.used,
        named=tally.named,
        recall=tally.both / max(1, tally.used),
        precision=tally.both / max(1, tally.named),
        chance=tally.blind / max(1, tally.used),
        recall_by_input={kind: tally.both_by_input[kind] / max(1, used) for kind, used in tally.used_by_input.items()},
        input_ns=run.busy_ns / max(1, run.inputs),
        inputs_per_s=run.inputs / busy * NS,
        token_ms=run.busy_ns / max(1, tokens) / 1e6,
        named_per_s=run.total_named / busy * NS,
        seen_ns=histogram.stats(),
    )
