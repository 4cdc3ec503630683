"""What a terminal shows while jobs run: one line, at the bottom, of rate and latency."""

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress import job
from tidemill.runtime.stress.job_processes import Watcher
from tidemill.runtime.stress.quantities import format_count, format_ns


class LiveLine:
    """A context manager. Without a terminal it says what is prepared, a line each, and nothing while jobs run."""

    def __init__(self, verb: str, *, quiet: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(16), TimeElapsedColumn(), TimeRemainingColumn())
        self._live = sys.stderr.isatty()
        self._quiet = quiet
        self._verb = verb
        self._bar = Progress(*columns, console=stderr_console(), transient=True, disable=not self._live)
        self._task: TaskID | None = None
        self._told: set[str] = set()

    @property
    def watcher(self) -> Watcher:
        return Watcher(self._prepare, self._show)

    def __enter__(self) -> "LiveLine":
        self._bar.start()
        self._task = self._bar.add_task(self._verb, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _prepare(self, preparing: job.JobPreparing) -> None:
        if not self._live and not self._quiet and preparing.what not in self._told:
            sys.stderr.write(f"{preparing.what}\n")
        self._told.add(preparing.what)
        self._update(preparing.what, preparing.done, preparing.total)

    def _show(self, jobs: Sequence[job.Progress]) -> None:
        self._update(f"{self._verb}  {describe(jobs)}", *time_of(jobs))

    def _update(self, text: str, done: float, total: float) -> None:
        assert self._task is not None
        self._bar.update(self._task, description=text, completed=done, total=total or None)


def time_of(jobs: Sequence[job.Progress]) -> tuple[float, float]:
    """(seconds done, seconds expected)"""
    expected = max(progress.expected_s for progress in jobs)
    done = max(progress.elapsed_s for progress in jobs)
    return min(done, expected or done), expected


def describe(jobs: Sequence[job.Progress]) -> str:
    """Rates of jobs that run beside one another add up; of latencies the worst counts."""
    parts: list[str] = []
    if rate := sum(progress.bytes_per_s for progress in jobs):
        parts.append(f"{format_size(rate)}/s")
    parts.append(f"{format_count(sum(progress.ops_per_s for progress in jobs))} {jobs[0].unit}")
    if p99 := max(progress.p99_ns for progress in jobs):
        p50 = max(progress.p50_ns for progress in jobs)
        parts.append(f"p50 {format_ns(p50)}  p99 {format_ns(p99)}")
    return "  ".join(parts)
