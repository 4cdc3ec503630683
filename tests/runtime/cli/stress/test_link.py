"""`tidemill stress link` with real processes, for a moment."""

import json

import pytest
from typer.testing import CliRunner, Result

from tidemill.runtime.cli.main import app


def stress(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["stress", "link", *arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
@pytest.mark.system
def test_each_combination_is_a_job_beside_a_pipe() -> None:
    result = stress("--payload", "16,1k", "--wait", "block", "--runtime", "200ms", "--json")
    told = json.loads(result.stdout)
    assert [job["jobname"] for job in told["jobs"]] == [
        "local-16-block", "local-1k-block", "in-process-16", "in-process-1k",
    ]  # fmt: skip
    assert [(c["jobname"], c["peer"], c["rounds"]) for c in told["comparisons"]] == [
        ("local-16-block", "multiprocessing.Pipe", 4),
        ("local-1k-block", "multiprocessing.Pipe", 4),
    ]


@pytest.mark.slow
@pytest.mark.system
def test_people_read_round_trips_rates_and_what_a_slow_reader_does() -> None:
    shown = stress("--payload", "16", "--wait", "spin", "--runtime", "200ms").stdout
    for text in ("round trip   : p50", "pipe         : p50", "messages/s", "slow reader  : 200 µs", "droppable"):
        assert text in shown


def test_what_cannot_be_is_one_line_and_status_1() -> None:
    assert "--payload is 1, accepted" in stress("--payload", "1", status=1).stderr
    assert "--wait is hope" in stress("--wait", "hope", status=1).stderr
