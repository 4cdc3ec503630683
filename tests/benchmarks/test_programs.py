"""Every program runs as a file from any directory, without anything on PYTHONPATH but what is installed."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER_PYTHONS = "peers"  # programs that are run by a Python that has the peer, and take no flags


def is_program(path: Path) -> bool:
    """Whether it ends with `if __name__ == "__main__"`."""
    last = ast.parse(path.read_text()).body[-1]
    return isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"


PROGRAMS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if path.parent.name != OTHER_PYTHONS and is_program(path)
)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_program_is_run_from_anywhere(program: Path, tmp_path: Path) -> None:
    """A checkout that is not installed is imported by the one path that holds the package, never by the root."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / program), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {program.name}")


def test_there_are_programs() -> None:
    assert {Path("benchmarks/zero_sparsity.py"), Path("benchmarks/fixtures/widen.py")} <= set(PROGRAMS)
    assert Path("benchmarks/report.py") not in PROGRAMS
