"""Progress on stderr: bars with rate and ETA, a status line while text flows, plain lines without a terminal."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tidemill.runtime.cli.status_line import StatusLine
from tidemill.runtime.events import CellRestarted, GenerationEvent, LoadProgressed, PrefillProgressed, TokenGenerated
from tidemill.runtime.sizes import format_size

PLAIN_EVERY = 32  # tokens between two plain lines of -v without a terminal


def stderr_console() -> Console:
    return Console(stderr=True, highlight=False)


class BytesProgress:
    """One bar over bytes with rate and ETA. A context manager; `update(done, total)` may be called often."""

    def __init__(self, title: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=stderr_console(), disable=not sys.stderr.isatty())
        self._title = title
        self._task: TaskID | None = None

    def __enter__(self) -> "BytesProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._title = text
        self._progress.console.print(text)

    def update(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._title, total=total)
        self._progress.update(self._task, completed=done, total=total)


class GenerationProgress:
    """Load and prefill bars until the first token, then the status line. `quiet` shows nothing at all."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._live = not quiet and sys.stderr.isatty()
        self._plain = not quiet and verbose and not self._live
        self._bars = Progress(*columns, console=stderr_console(), transient=True, disable=not self._live)
        self._tasks: dict[str, TaskID] = {}
        self._status = StatusLine()
        self._tokens = 0
        self._ns = self._stall_ns = self._flash_bytes = 0

    def __enter__(self) -> "GenerationProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        self._status.close()

    def show(self, event: GenerationEvent) -> None:
        match event:
            case LoadProgressed(done_bytes, total_bytes):
                self._bar("load", done_bytes, total_bytes, f"{format_size(done_bytes)} of {format_size(total_bytes)}")
            case PrefillProgressed(done, total):
                self._bar("prompt", done, total, f"{done / total:.0%}")
            case TokenGenerated():
                self._count(event)
            case CellRestarted(why, again):
                self._tell_restart(why, again)

    def _tell_restart(self, why: str, again: int) -> None:
        self._status.close()
        words = f"{why}; starting again, {again} positions are computed once more"
        stderr_console().print(words, markup=False)

    def _bar(self, name: str, done: int, total: int, detail: str) -> None:
        if self._tokens:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, detail=detail)
        self._bars.update(self._tasks[name], completed=done, detail=detail)

    def _count(self, token: TokenGenerated) -> None:
        if self._tokens == 0:
            self._bars.stop()
        else:  # the first token's time is the prompt's
            self._ns += token.elapsed_ns
            self._stall_ns += token.stall_ns
            self._flash_bytes += token.flash_bytes
        self._tokens += 1
        if not self._ns:
            if self._live:
                self._status.show("t=1")  # takes its row before any text stands on the screen
            return
        decoded = self._tokens - 1
        text = (
            f"t={self._tokens}  {decoded / self._ns * 1e9:.2f} tok/s  "
            f"{format_size(self._flash_bytes / decoded)}/token  "
            f"flash {format_size(self._flash_bytes / self._ns * 1e9)}/s  stall {self._stall_ns / self._ns:.0%}"
        )
        if self._live:
            self._status.show(text)
        elif self._plain and self._tokens % PLAIN_EVERY == 0:
            sys.stderr.write(text + "\n")
