import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "planner_accuracy.py"


@pytest.mark.system
def test_the_planner_benchmark_prints_a_row_per_point_and_the_mean_error(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    command = [sys.executable, str(PROGRAM), "--smoke", "--model", str(tmp_path / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *rows, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == last["points"] > 0
    for row in rows:
        assert row["error"] == pytest.approx(row["predicted_s_per_token"] / row["measured_s_per_token"] - 1)
    errors = [abs(row["error"]) for row in rows]
    assert last["mean_absolute_error"] == pytest.approx(sum(errors) / len(errors))
