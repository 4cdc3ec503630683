"""The table of outcomes counts every event once, and a failure comes with the command that does it again."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

from tidemill.runtime.cli.stress.soak_view import failure_text, outcome_table
from tidemill.runtime.stress.soak.report import EventReport, Outcome, count_outcomes, make_report, reproduce_command
from tidemill.runtime.stress.soak.schedule import draw_event
from tidemill.runtime.stress.soak.settings import SoakSettings

SETTINGS = SoakSettings(
    model=Path("/models/a b"),
    model_name="a b",
    seed=7,
    runtime_s=60.0,
    tokens=32,
    deadline_s=60.0,
    directory=Path("/tmp"),
)


def event(index: int, kind: str, outcome: Outcome) -> EventReport:
    return EventReport(index=index, kind=kind, variant="x", outcome=outcome, tokens=10, peak_bytes=index)


EVENTS = [
    event(0, "kill", "resumed"),
    event(1, "stop", "identical"),
    event(2, "kill", "error"),
    event(3, "kill", "failed"),
    event(4, "cgroup", "skipped"),
]


def test_every_event_is_counted_once_under_its_kind_and_outcome() -> None:
    counts = count_outcomes(EVENTS)
    assert list(counts) == ["kill", "stop", "cgroup"]
    assert counts["kill"] == {"identical": 0, "resumed": 1, "error": 1, "skipped": 0, "failed": 1}
    assert sum(sum(of_kind.values()) for of_kind in counts.values()) == len(EVENTS)
    assert counts["cgroup"]["skipped"] == 1


def test_the_table_has_a_row_for_each_kind_and_the_sums() -> None:
    table = outcome_table(make_report(SETTINGS, EVENTS, elapsed_s=1.0, interrupted=False))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0] == ("kill", "3", "0", "1", "1", "0", "1")
    assert rows[-1] == ("all", "5", "1", "1", "1", "1", "1")


def test_the_object_has_everything() -> None:
    report = make_report(SETTINGS, EVENTS, elapsed_s=12.3456, interrupted=True)
    told = json.loads(report.to_json())
    assert (told["seed"], told["interrupted"], told["tokens"], told["peak_bytes"]) == (7, True, 50, 4)
    assert told["counts"]["kill"]["failed"] == 1
    assert [e["index"] for e in told["events"]] == [0, 1, 2, 3, 4]
    assert [e.index for e in report.failures] == [3]


def test_a_failure_says_what_was_expected_and_got_and_how_to_see_it_again() -> None:
    drawn = draw_event(7, 23)
    command = reproduce_command(SETTINGS, drawn)
    assert shlex.split(command)[-8:] == ["-m", "a b", "--seed", "7", "--event", "23", "--tokens", "32"]
    assert reproduce_command(replace(SETTINGS, kinds=("kill", "stop")), drawn).endswith("--kinds kill,stop")
    failed = EventReport(
        index=23,
        kind="kill",
        variant="arena",
        outcome="failed",
        done="killed",
        expected="tokens",
        got=("a leak", "two\nlines"),
        reproduce=command,
    )
    text = failure_text(failed)
    assert all(part in text for part in ("expected: tokens", "got: a leak; two\n", "lines", f"again: {command}"))
