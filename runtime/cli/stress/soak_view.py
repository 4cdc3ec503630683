"""What a soak shows: progress on stderr, a table of outcomes and every failure on stdout."""

import sys
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tidemill.runtime.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.soak.campaign import SoakWatcher
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.report import OUTCOMES, EventReport, SoakReport

WIDTH = 160  # of what is no terminal


class SoakProgress:
    """A context manager. Without a terminal it writes a line for every event."""

    def __init__(self, runtime_s: float, *, is_one: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(16), TimeElapsedColumn(), TimeRemainingColumn())
        self._live = sys.stderr.isatty()
        self._bar = Progress(*columns, console=stderr_console(), transient=True, disable=not self._live)
        self._runtime_s = None if is_one else runtime_s
        self._task: TaskID | None = None
        self._failed = 0

    @property
    def watcher(self) -> SoakWatcher:
        return SoakWatcher(self._prepare, self._begin, self._end)

    def __enter__(self) -> "SoakProgress":
        self._bar.start()
        self._task = self._bar.add_task("soak", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _prepare(self, text: str) -> None:
        self._update(text, 0.0, None)
        if not self._live:
            sys.stderr.write(f"{text}\n")

    def _begin(self, event: Event, elapsed_s: float) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        self._update(f"event {event.index}{failed}: {event.text}", elapsed_s, self._runtime_s)

    def _end(self, report: EventReport, elapsed_s: float) -> None:
        self._failed += report.outcome == "failed"
        if not self._live or report.outcome == "failed":
            left = "" if self._runtime_s is None else f", {max(0.0, self._runtime_s - elapsed_s):.0f} s left"
            what = f" ({report.got[0].splitlines()[0]})" if report.got else ""
            done = report.done or f"{report.kind} {report.variant}"
            line = f"event {report.index}: {done}: {report.outcome}{what}, {report.seconds:.1f} s{left}"
            self._bar.console.print(line, markup=False, soft_wrap=True)

    def _update(self, text: str, done: float, total: float | None) -> None:
        assert self._task is not None
        self._bar.update(self._task, description=text, completed=min(done, total or done), total=total)


def give_out(report: SoakReport, *, as_json: bool) -> None:
    """The report to stdout. Exit status 130 where Ctrl-C ended the campaign, 1 where an event failed."""
    if as_json:
        sys.stdout.write(report.to_json().decode() + "\n")
    else:
        print_report(report)
    sys.stdout.flush()
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if report.failures:
        raise typer.Exit(EXIT_FAILED)


def print_report(report: SoakReport) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    if report.interrupted:
        console.print("interrupted: what was done up to there")
    console.print(outcome_table(report))
    console.print(
        f"{report.model}, seed {report.seed}: {len(report.events)} events in {report.elapsed_s:.0f} s, "
        f"{report.tokens} tokens decoded while they happened, peak {format_size(report.peak_bytes)}"
    )
    for reason in dict.fromkeys(f"{e.kind} {e.variant}: {e.got[0]}" for e in report.events if e.outcome == "skipped"):
        console.print(f"skipped {reason}")
    for event in report.failures:
        console.print(failure_text(event))


def outcome_table(report: SoakReport) -> Table:
    """A row for each kind, a column for each outcome."""
    table = Table("kind", "events", *OUTCOMES, box=None, pad_edge=False)
    for kind, counts in report.counts.items():
        table.add_row(kind, str(sum(counts.values())), *(str(counts[outcome]) for outcome in OUTCOMES))
    totals = [sum(counts[outcome] for counts in report.counts.values()) for outcome in OUTCOMES]
    table.add_row("all", str(sum(totals)), *map(str, totals))
    return table


def failure_text(event: EventReport) -> str:
    got = "\n       ".join("; ".join(event.got).splitlines())
    return (
        f"\nFAILED event {event.index}, {event.kind} {event.variant}: {event.done}\n"
        f"  expected: {event.expected}\n  got: {got}\n  again: {event.reproduce}"
    )
