"""What was measured is found again, by all that makes it the same measurement."""

import json
from pathlib import Path

import msgspec
import pytest

from benchmarks.measured_rows import MeasuredRows


class Place(msgspec.Struct, frozen=True):
    name: str
    round: int


class PlacedRow(msgspec.Struct, frozen=True, kw_only=True):
    kind: str = "run"
    where: Place
    outcome: str
    speed: float


def row(name: str, speed: float, outcome: str = "ok") -> PlacedRow:
    return PlacedRow(where=Place(name, 0), outcome=outcome, speed=speed)


def test_rows_of_an_earlier_call_are_found_and_other_lines_are_not(tmp_path: Path) -> None:
    first = MeasuredRows(tmp_path / "rows", PlacedRow)
    first.add(row("a", 1.0))
    first.write({"kind": "summary"})
    first.add(row("b", 2.0))
    second = MeasuredRows(tmp_path / "rows", PlacedRow)
    assert second.find(Place("b", 0)) == row("b", 2.0)
    assert second.find(Place("b", 1)) is None
    assert [json.loads(line)["kind"] for line in (tmp_path / "rows").read_text().splitlines()] == [
        "run",
        "summary",
        "run",
    ]


@pytest.mark.parametrize(("outcome", "again"), [("failed", True), ("timed out", True), ("out of memory", False)])
def test_what_failed_is_measured_again_and_the_later_row_counts(tmp_path: Path, outcome: str, again: bool) -> None:
    measured = MeasuredRows(tmp_path / "rows", PlacedRow)
    measured.add(row("a", 1.0, outcome))
    assert (measured.find(Place("a", 0)) is None) == again
    measured.add(row("a", 3.0))
    assert MeasuredRows(tmp_path / "rows", PlacedRow).find(Place("a", 0)) == row("a", 3.0) or not again


def test_without_a_file_rows_are_only_printed(capsys: pytest.CaptureFixture[str]) -> None:
    measured = MeasuredRows(None, PlacedRow)
    measured.add(row("a", 1.0))
    assert json.loads(capsys.readouterr().out)["speed"] == 1.0
    assert measured.find(Place("a", 0)) == row("a", 1.0)
