"""`tidemill stress arena` in its process, on a few bundles."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.replayed_trace import write_synthetic_trace
from tidemill.runtime.cli.main import app

SMALL = ("--layers", "2", "--channels", "64", "--tokens", "8", "--bs", "64")


def stress(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["stress", "arena", *arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
def test_every_policy_that_can_be_is_a_row() -> None:
    shown = stress(*SMALL, "--size", "75%").stdout
    for policy in ("lfu", "adaptive", "window", "lru", "hot-set", "none"):
        assert f"\n{policy} " in shown
    assert "zipf:0.7: 19 of 64 channels" in shown


@pytest.mark.slow
def test_json_has_a_job_for_each_policy_and_size_and_says_where_the_cliff_is(tmp_path: Path) -> None:
    write_synthetic_trace(tmp_path / "a.arrow", tokens=5, seed=2)
    told = json.loads(
        stress(
            "--trace", str(tmp_path / "a.arrow"), "--policies", "lru", "--size", "30%,90%", "--bs", "64", "--json"
        ).stdout
    )
    assert [job["jobname"] for job in told["jobs"]] == ["lru-30%", "lru-90%"]
    assert told["jobs"][0]["arena"]["demand_ratio"] < 1
    assert "below one token's demand" in told["notes"][0]


def test_what_cannot_be_is_one_line() -> None:
    assert "--policies is belady" in stress("--policies", "belady", status=1).stderr
    assert "go with --trace" in stress("--model", "a", status=2).stderr
    assert "is no mix" in stress("--mix", "lru", status=1).stderr
