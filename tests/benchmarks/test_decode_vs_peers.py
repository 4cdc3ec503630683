import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.limits import find_roots
from tests.fakes.models import write_tiny_model

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "decode_vs_peers.py"
pytestmark = pytest.mark.system


def compare(directory: Path, *flags: str) -> tuple[list[dict[str, object]], str]:
    write_tiny_model(directory / "tiny")
    command = [sys.executable, str(PROGRAM), "--smoke", "--model", str(directory / "tiny"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


UNDRAFTED = ("--tidemill-flags", "--draft none")


def test_it_prints_a_row_for_each_run_and_a_summary(tmp_path: Path) -> None:
    rows, text = compare(tmp_path)
    assert [(row["kind"], row["contender"]) for row in rows] == [
        ("round", "tidemill"),
        ("round", "tidemill, drafts"),
        ("summary", "tidemill"),
        ("summary", "tidemill, drafts"),
    ]
    assert [row["outcome"] for row in rows[:2]] == ["ok", "ok"]
    assert all(row["tokens"] == row["equal_tokens"] == 4 for row in rows[:2])
    assert rows[2]["times_first"] == 1.0
    assert rows[0]["prompt_tokens"] == 8
    assert "tidemill" in text


def test_a_contender_that_is_not_installed_is_left_out_and_named(tmp_path: Path) -> None:
    rows, _ = compare(tmp_path, *UNDRAFTED, "--hf", str(tmp_path), "--accelerate-python", str(tmp_path / "python"))
    assert [row["kind"] for row in rows] == ["left out", "round", "summary"]
    assert rows[0]["contender"] == "accelerate disk"


@pytest.mark.skipif(find_roots().memory is None, reason="no memory control group can be made here")
def test_a_ceiling_below_what_a_contender_needs_is_a_result(tmp_path: Path) -> None:
    rows, text = compare(tmp_path, *UNDRAFTED, "--ceilings", "600MiB,30MiB", "--throttle", "0.8GB/s")
    assert [(row["kind"], row["ceiling_bytes"]) for row in rows] == [
        ("round", 600 << 20),
        ("round", 30 << 20),
        ("summary", 600 << 20),
        ("summary", 30 << 20),
    ]
    assert [row["outcome"] for row in rows[:2]] == ["ok", "out of memory"]
    assert "out of memory" in text
