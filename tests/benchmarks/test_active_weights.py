"""The program itself, on a tiny model: conversions are made and removed, a second call measures nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.benchmarks.fixtures.test_wide_calibration import save_small
from tests.fakes.gguf_files import write_gguf
from tidemill.storage.convert.convert import convert_model
from tidemill.storage.convert.tables import LayoutChoice

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "active_weights.py"
pytestmark = pytest.mark.system


def measure(directory: Path) -> tuple[list[dict[str, object]], str]:
    command = [sys.executable, str(PROGRAM), "--exact", str(directory / "small"), "--source", str(directory / "t.gguf")]
    command += ["--calibrated", str(directory / "small"), "--store", str(directory / "store"), "--sparsity", "0.5"]
    command += ["--ceilings", "none", "--ablation-ceilings", "none", "--tokens", "2", "--prompt-tokens", "4"]
    command += ["--rounds", "1", "--keep", "4", "--label", "test"]
    command += ["--out", str(directory / "out.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_runs_are_measured_once_and_conversions_that_were_made_are_removed(tmp_path: Path) -> None:
    write_gguf(tmp_path / "t.gguf", gguf.GGMLQuantizationType.BF16)
    convert_model(tmp_path / "t.gguf", tmp_path / "small")
    save_small(tmp_path / "small", np.random.default_rng(5))
    convert_kept(tmp_path)
    rows, text = measure(tmp_path)
    runs = [row for row in rows if row["kind"] == "run"]
    assert [row["outcome"] for row in runs] == ["ok"] * 4, text
    assert [row["conversion"] for row in runs] == [None, "ic4", "gate", "neuron"]
    assert [row["kind"] for row in rows].count("summary") == 4
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["gate", "made-by-benchmark.json"]
    again, _ = measure(tmp_path)
    assert [row["kind"] for row in again] == ["summary"] * 4


def convert_kept(directory: Path) -> None:
    """One that is there before stays."""
    (directory / "store").mkdir()
    convert_model(directory / "t.gguf", directory / "store" / "gate", choice=LayoutChoice("gate-first", 1))
