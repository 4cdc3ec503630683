"""Rows of runs that a program appends to a file, and finds there when it is called again. Knows no kind of row."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

REPEATED = ("failed", "timed out")  # outcomes that a second call tries again


def code_revision() -> str:
    """Of the code that is measured, to tell its rows from those of other code."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


class RunRow(Protocol):
    """`where` is equal for two rows that are the same measurement."""

    @property
    def kind(self) -> str: ...  # "run"

    @property
    def where(self) -> msgspec.Struct: ...

    @property
    def outcome(self) -> str: ...


Row = TypeVar("Row", bound=RunRow)


class MeasuredRows(Generic[Row]):
    """Rows of earlier calls and of this one; prints them and appends them to the file as they come."""

    def __init__(self, path: Path | None, of: type[Row]) -> None:
        self._path = path
        self._rows: list[Row] = []
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ():
            if msgspec.json.decode(line, type=dict).get("kind") == "run":
                self._rows.append(msgspec.json.decode(line, type=of))

    def find(self, where: msgspec.Struct) -> Row | None:
        return next((row for row in self._rows if row.where == where and row.outcome not in REPEATED), None)

    @property
    def rows(self) -> Sequence[Row]:
        """Of all calls, also for what is not asked for in this one."""
        return self._rows

    def add(self, row: Row) -> None:
        self._rows = [other for other in self._rows if other.where != row.where] + [row]
        self.write(row)

    def write(self, row: object) -> None:
        """Prints and appends it without finding it again."""
        text = msgspec.json.encode(row).decode()
        print(text, flush=True)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
