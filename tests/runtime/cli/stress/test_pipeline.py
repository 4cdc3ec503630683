"""`tidemill stress pipeline` with real processes, on a tiny model."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.models import write_tiny_model
from tidemill.runtime.cli.main import app


def stress(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["stress", "pipeline", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
@pytest.mark.system
def test_each_time_of_computing_is_a_job_beside_its_bound(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    result = stress(
        "-m", tmp_path / "tiny", "--arena", "1300k", "--compute", "0,1ms", "--tokens", 3, "--launcher", "in-process",
        "--json",
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert [job["pipeline"]["tokens"] for job in told["jobs"]] == [3, 3]
    assert all(job["pipeline"]["alone_bytes_per_s"] > 0 for job in told["jobs"])
    assert [c["peer"] for c in told["comparisons"]] == ["max(compute, bytes / rate)"] * 2


def test_what_cannot_be_is_one_line() -> None:
    assert "is no mix" in stress("--mix", "lru", status=1).stderr
    assert "--preload is scaled" in stress("--preload", "scaled", status=1).stderr
    assert "enospc is of writers" in stress("--device", "emulate:none,fault=enospc:@1GiB", status=1).stderr
    assert "no directory" in stress("--directory", "/nowhere", status=1).stderr
