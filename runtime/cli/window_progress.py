"""Progress of passes over text, on stderr: a bar with rate and ETA, or a plain line now and then without a terminal."""

import sys
from collections.abc import Iterable
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.quality.windows import WindowProgress

SHOWN_VARIANTS = 2  # perplexities that fit the line: the exact one, and that of one selection
PLAIN_SHARE = 0.1  # of a pass between two plain lines


class WindowBar:
    """One bar per pass. A context manager."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._live = not quiet and sys.stderr.isatty()
        self._plain = not quiet and not self._live
        self._bars = Progress(*columns, console=stderr_console(), disable=not self._live)
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> "WindowBar":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def follow(self, passes: Iterable[WindowProgress]) -> None:
        for progress in passes:
            self._show(progress)

    def _show(self, progress: WindowProgress) -> None:
        detail = f"{progress.tokens_per_s:.0f} tokens/s"
        if 1 <= len(progress.perplexities) <= SHOWN_VARIANTS:
            detail += f", perplexity {' → '.join(f'{value:.2f}' for value in progress.perplexities)}"
        if self._live:
            if progress.what not in self._tasks:
                self._tasks[progress.what] = self._bars.add_task(progress.what, total=progress.total, detail=detail)
            self._bars.update(self._tasks[progress.what], completed=progress.done, detail=detail)
        share = progress.done / progress.total
        if self._plain and (share >= 1.0 or share >= self._told.get(progress.what, 0.0) + PLAIN_SHARE):
            self._told[progress.what] = share
            sys.stderr.write(f"{progress.what}: {share:.0%} of {progress.total} windows, {detail}\n")
