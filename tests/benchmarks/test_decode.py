import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "decode.py"


@pytest.mark.system
def test_the_decode_benchmark_prints_a_row_per_contender(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    command = [sys.executable, str(PROGRAM), "--smoke", "--model", str(tmp_path / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["contender"] for row in rows] == ["tidemill arena 100%", "tidemill arena 50%"]
    assert rows[0]["streamed_bytes_per_token"] == 0 < rows[1]["streamed_bytes_per_token"]
    assert all(0 < row["min_s"] <= row["decode_s_per_token"] <= row["max_s"] for row in rows)
