"""One link job: turns of round trips with a pipe's, a flood one way, and a reader that is too slow."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tidemill.runtime.links.link import LinkError
from tidemill.runtime.stress.job import JobSurroundings, Progress
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.link.job import BACK, OUT, LinkFigures, LinkJob, SlowReader
from tidemill.runtime.stress.rate_series import RateSeries
from tidemill.runtime.stress.report import JobReport
from tidemill.runtime.stress.usage import ProcessUsage, plain_report

TURNS = ("ours", "pipe", "pipe", "ours") * 2  # what drifts meets both alike
SHARES = {"turn": 0.06, "flood": 0.27, "slow": 0.15, "dropping": 0.1}  # of the time; eight turns
WARM_UP = 200  # round trips that are not counted
LOOK_EVERY = 64  # messages between two looks at the clock
WAITED_NS = 100_000  # a send that takes longer has waited for room
NS = 1_000_000_000


class Wire(Protocol):
    """Both ends of a job's links as its own process sees them."""

    def round_trips(self, what: str, seconds: float) -> LatencyHistogram:
        """`what`: ours or pipe."""
        ...

    def flood(self, seconds: float, on_count: Callable[[int], None]) -> tuple[int, int]:
        """(messages, nanoseconds until the last was taken)"""
        ...

    def slow(self, seconds: float) -> "SlowRun": ...

    def dropping(self, seconds: float) -> tuple[int, int, int]:
        """(sent, dropped, neither dropped nor received)"""
        ...

    def stuck(self) -> tuple[float, str]:
        """(seconds, the error) of a writer whose reader has stopped."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SlowRun:
    """Of a writer whose reader is too slow: `error` is how the link refused, where it cannot wait."""

    sent: int
    lost: int
    error: str
    send_ns: LatencyHistogram
    waited_ns: int
    elapsed_ns: int


def open_wire(job: LinkJob, is_stopped: Callable[[], bool]) -> Wire:
    if job.launcher == "in-process":
        from tidemill.runtime.stress.link.queue_wire import QueueWire

        return QueueWire(job, is_stopped)
    from tidemill.runtime.stress.link.ring_wire import RingWire

    return RingWire(job, is_stopped)


def run_link(job: LinkJob, surroundings: JobSurroundings) -> JobReport:
    """What a stop comes before is as if it had taken no time. Raises LinkError, OSError."""
    with closing(open_wire(job, surroundings.is_stopped)) as wire:
        surroundings.await_go()
        return _Run(job, wire, surroundings).run()


class _Run:
    def __init__(self, job: LinkJob, wire: Wire, surroundings: JobSurroundings) -> None:
        self._job = job
        self._wire = wire
        self._surroundings = surroundings
        self._begun_ns = time.perf_counter_ns()
        self._ours, self._pipe = LatencyHistogram(), LatencyHistogram()
        self._series = RateSeries(self._begun_ns)

    def run(self) -> JobReport:
        job, before = self._job, ProcessUsage.now()
        p50s: dict[str, list[int]] = {"ours": [], "pipe": []}
        for what in TURNS if job.launcher == "local" else ("ours",) * len(TURNS):
            turn = self._wire.round_trips(what, SHARES["turn"] * job.runtime_s)
            (self._ours if what == "ours" else self._pipe).merge(turn)
            p50s[what] += [turn.percentile(50)] if turn.count else []
            self._tell(0, 0.0)
        count, elapsed_ns = self._flood()
        figures = LinkFigures(
            launcher=job.launcher,
            wait=job.wait,
            payload_bytes=job.payload_bytes,
            link=f"{OUT.name}, {BACK.name}",
            capacity_bytes=OUT.capacity_bytes,
            round_trip_ns=self._ours.stats(),
            turns_p50_ns=tuple(p50s["ours"]),
            messages_per_s=count / max(elapsed_ns, 1) * NS,
            bytes_per_s=count * job.payload_bytes / max(elapsed_ns, 1) * NS,
            slow_reader=self._slow(),
            pipe_round_trip_ns=self._pipe.stats() if self._pipe.count else None,
            pipe_turns_p50_ns=tuple(p50s["pipe"]),
        )
        if job.is_stuck and not self._surroundings.is_stopped():
            seconds, error = self._wire.stuck()
            figures = msgspec.structs.replace(figures, stuck_after_s=seconds, stuck_error=error)
        used = ProcessUsage.now().since(before)
        plain = plain_report(job.name, _options(job), time.perf_counter_ns() - self._begun_ns, used)
        return msgspec.structs.replace(plain, link=figures, rate_log=tuple(self._series.samples))

    def _flood(self) -> tuple[int, int]:
        self._series = RateSeries(time.perf_counter_ns())

        def on_count(count: int) -> None:
            now_ns = time.perf_counter_ns()
            sample = self._series.see(now_ns, count * self._job.payload_bytes, count)
            if sample is not None:
                self._tell(sample.bytes_per_s, sample.ios_per_s)

        return self._wire.flood(SHARES["flood"] * self._job.runtime_s, on_count)

    def _slow(self) -> SlowReader:
        run = self._wire.slow(SHARES["slow"] * self._job.runtime_s)
        sent, dropped, lost = self._wire.dropping(SHARES["dropping"] * self._job.runtime_s)
        return SlowReader(
            pause_ns=self._job.pause_us * 1000,
            certain_sent=run.sent,
            certain_lost=run.lost,
            certain_error=run.error,
            send_ns=run.send_ns.stats(),
            waited_share=run.waited_ns / max(run.elapsed_ns, 1),
            droppable_sent=sent,
            droppable_dropped=dropped,
            droppable_lost=lost,
        )

    def _tell(self, bytes_per_s: float, messages_per_s: float) -> None:
        self._surroundings.tell(
            Progress(
                elapsed_s=(time.perf_counter_ns() - self._begun_ns) / NS,
                expected_s=self._job.runtime_s,
                bytes_per_s=bytes_per_s,
                ops_per_s=messages_per_s,
                unit="messages/s",
                p50_ns=self._ours.percentile(50),
                p99_ns=self._ours.percentile(99),
            )
        )


def send_for(
    send: Callable[[int], bool], seconds: float, is_stopped: Callable[[], bool], on_count: Callable[[int], None]
) -> tuple[int, int]:
    """(sent, refused) by a writer that never rests; `send(sequence)` tells whether there was room."""
    until, sent, refused = time.perf_counter_ns() + round(seconds * NS), 0, 0
    while time.perf_counter_ns() < until and not is_stopped():
        for _ in range(LOOK_EVERY):
            refused += not send(sent)
            sent += 1
        on_count(sent)
    return sent, refused


def send_timed(
    send: Callable[[int], bool], seconds: float, is_stopped: Callable[[], bool]
) -> tuple[int, int, LatencyHistogram, str]:
    """(sent, nanoseconds that sends waited, what each took, how the link refused to go on)"""
    until, sent, waited_ns = time.perf_counter_ns() + round(seconds * NS), 0, 0
    latencies: list[int] = []
    error = ""
    while (before := time.perf_counter_ns()) < until and not is_stopped():
        try:
            send(sent)
        except LinkError as refusal:
            error = str(refusal)
            break
        took_ns = time.perf_counter_ns() - before
        latencies.append(took_ns)
        waited_ns += took_ns if took_ns > WAITED_NS else 0
        sent += 1
    histogram = LatencyHistogram()
    histogram.add(latencies)
    return sent, waited_ns, histogram, error


def _options(job: LinkJob) -> dict[str, str]:
    return {
        "name": job.name,
        "launcher": job.launcher,
        "wait": job.wait,
        "payload": str(job.payload_bytes),
        "runtime": f"{job.runtime_s:g}",
    }
