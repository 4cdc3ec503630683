"""`tidemill stress predictor` in its process, on a few channels."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.replayed_trace import write_synthetic_trace
from tidemill.runtime.cli.main import app


def stress(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["stress", "predictor", *arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
def test_every_policy_is_a_job(tmp_path: Path) -> None:
    told = json.loads(stress("--layers", "3", "--channels", "64", "--neurons", "64", "--tokens", "4", "--json").stdout)
    assert [job["jobname"] for job in told["jobs"]] == ["scaled", "cross-layer", "previous-token", "popularity"]
    write_synthetic_trace(tmp_path / "a.arrow", tokens=4, seed=1)
    shown = stress("--trace", str(tmp_path / "a.arrow")).stdout
    assert "policy=scaled" not in shown  # a trace alone has no magnitudes
    assert "recall       :" in shown


def test_what_cannot_be_is_one_line() -> None:
    assert "--policies is oracle" in stress("--policies", "oracle", status=1).stderr
    assert "give both" in stress("--activations", "a", status=1).stderr
