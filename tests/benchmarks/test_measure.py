"""A contender's end, whatever it is, is a result."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import Decoded, Task
from benchmarks.limits import find_roots
from benchmarks.measure import Point, Run, run_once

pytestmark = pytest.mark.system  # processes, an empty page cache


class Program:
    """A contender that runs some Python."""

    name = "program"
    weights = "bf16"

    def __init__(self, code: str, files: Path) -> None:
        self.files = files
        self._code = code

    def command(self, task: Task) -> list[str]:
        return [sys.executable, "-c", self._code]

    def read(self, stdout: str, task: Task) -> Decoded:
        return Decoded(1, tuple(json.loads(stdout)), (1.0, 0.5), load_s=None)

    def problem(self) -> str:
        return ""


def run(code: str, directory: Path, *, ceiling: int | None = None, timeout_s: float = 60.0) -> Run:
    task = Task(directory / "prompt.txt", 2, 8, 1, ceiling, directory)
    return run_once(Program(code, directory), task, Point(ceiling, None), timeout_s)


def test_what_is_printed_is_read(tmp_path: Path) -> None:
    result = run("print([4, 5])", tmp_path)
    assert (result.outcome, result.decode_s_per_token, result.ttft_s) == ("ok", 0.5, 1.0)
    assert result.decoded is not None
    assert result.decoded.token_ids == (4, 5)
    assert list(tmp_path.iterdir()) == []  # nothing stays


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("raise SystemExit('no such model')", "no such model"),
        ("print('hello')", "can't be read"),
        ("import os; os._exit(3)", "exit status 3"),
    ],
)
def test_a_failure_is_told(tmp_path: Path, code: str, detail: str) -> None:
    result = run(code, tmp_path)
    assert result.outcome == "failed"
    assert detail in result.detail
    assert result.decode_s_per_token is None


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    assert run("import threading; threading.Event().wait()", tmp_path, timeout_s=0.5).outcome == "timed out"


@pytest.mark.skipif(find_roots().memory is None, reason="no memory control group can be made here")
def test_a_run_that_is_killed_for_memory_is_told_apart(tmp_path: Path) -> None:
    result = run("b = bytearray(200 << 20)", tmp_path, ceiling=50 << 20)
    assert result.outcome == "out of memory"
    assert result.peak_bytes is not None
    assert result.peak_bytes <= 50 << 20
