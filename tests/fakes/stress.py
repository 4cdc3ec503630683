"""Reports and surroundings of stress jobs that never ran."""

from collections.abc import Callable, Sequence

import msgspec

from tidemill.runtime.stress.job import Progress, StoppedError
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.pipeline.job import PipelineFigures
from tidemill.runtime.stress.rate_series import RateSample
from tidemill.runtime.stress.read_report import ReadCounts, depth_levels, latency_tables, read_report
from tidemill.runtime.stress.report import JobReport, ReaderFigures
from tidemill.runtime.stress.usage import ProcessUsage, plain_report

TICK_NS = 1_000_000
NO_USE = ProcessUsage(0.5, 0.25, 3, 0, 7)


def ticking_clock() -> Callable[[], int]:
    """Every look at it is a millisecond later."""
    now = 0

    def tick() -> int:
        nonlocal now
        now += TICK_NS
        return now

    return tick


class FakeSurroundings:
    """Implements JobSurroundings: stops after so many questions, or before it begins."""

    def __init__(self, stop_after: int | None = None, *, never_goes: bool = False) -> None:
        self._left = stop_after
        self._never_goes = never_goes
        self.prepared: list[tuple[str, int, int]] = []
        self.told: list[Progress] = []

    def prepare(self, what: str, done: int, total: int) -> None:
        self.prepared.append((what, done, total))

    def await_go(self) -> None:
        if self._never_goes:
            raise StoppedError

    def is_stopped(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def tell(self, progress: Progress) -> None:
        self.told.append(progress)


def read_job(
    *, name: str = "reader", io_bytes: int = 4096, seconds: float = 1.0, latencies: Sequence[int] = (1000, 2000, 3000)
) -> JobReport:
    histogram = LatencyHistogram()
    histogram.add(list(latencies))
    samples = [RateSample(250, 1e6, 10.0), RateSample(500, 3e6, 30.0)]
    read = read_report(
        ReadCounts(
            io_bytes=io_bytes,
            ios=len(latencies),
            elapsed_ns=round(seconds * 1e9),
            slat=histogram,
            clat=histogram,
            lat=histogram,
            samples=samples,
        )
    )
    ns, us, ms = latency_tables(read.lat_ns)
    return msgspec.structs.replace(
        plain_report(name, {"name": name, "rw": "read"}, round(seconds * 1e9), NO_USE),
        read=read,
        iodepth_level=depth_levels({1: 1}),
        latency_ns=ns,
        latency_us=us,
        latency_ms=ms,
        reader=_figures(),
        rate_log=tuple(samples),
    )


def pipeline_job(compute_ns: float) -> JobReport:
    """Of one token of 10 ms that read 1 MB."""
    histogram = LatencyHistogram()
    histogram.add([10_000_000])
    found = PipelineFigures(
        tokens=1,
        layout="dense",
        arena_bytes=1 << 20,
        locked_bytes=0,
        token_ns=histogram.stats(),
        compute_ns=compute_ns,
        stall_ns=1e6,
        management_ns=0.0,
        stall_share=0.1,
        flash_bytes_per_token=1e6,
        flash_bytes_per_s=1e8,
        busy_share=0.9,
        busy_ns=9e6,
        load_mode="direct",
    )
    return msgspec.structs.replace(plain_report("compute", {}, 10_000_000, NO_USE), pipeline=found.with_alone(1e9))


def _figures() -> ReaderFigures:
    return ReaderFigures(
        load_mode_asked="direct",
        load_mode="buffered",
        alignment_bytes=4096,
        depth=1,
        depth_mean=0.9,
        tickets=4,
        arena_bytes=1 << 20,
        verified=False,
        pattern="blocks",
        useful_bytes=4096,
        orders=3,
        retries=0,
        failed=0,
        first_failure="",
        device="",
        late_reads=0,
        late_ns=0,
        faults=0,
    )
