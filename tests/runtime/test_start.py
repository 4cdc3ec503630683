"""What `run` loads and weighs before a model is opened."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tidemill.runtime import environment
from tidemill.runtime.memory import process_memory, release_code, release_freed_memory

IMPORTS = (
    "import sys, tidemill.runtime.cli.run, tidemill.runtime.llm; print(*sorted(m for m in sys.modules if '.' not in m))"
)


@pytest.mark.slow
def test_running_loads_nothing_that_only_other_verbs_need() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tidemill" in loaded
    assert not loaded & {"pyarrow", "safetensors", "numba", "llvmlite", "gguf", "huggingface_hub", "torch", "ray"}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell")
def test_freed_memory_goes_back_to_the_system() -> None:
    blocks = [bytearray(2000) for _ in range(20_000)]
    before = process_memory(os.getpid())
    del blocks[:-1]  # the last one keeps the heap from shrinking by itself
    release_freed_memory()
    after = process_memory(os.getpid())
    assert before is not None
    assert after is not None
    assert before.total_bytes - after.total_bytes > 30_000_000


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell")
def test_code_that_was_released_still_runs() -> None:
    matrix = np.eye(64, dtype=np.float32)
    assert release_code("libscipy_openblas") > 0
    assert np.array_equal(matrix @ matrix, matrix)
    assert release_code("libthat-is-not-loaded") == 0


def test_a_copy_elsewhere_has_its_own_compiled_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for part in environment.COMPILED:
        (tmp_path / part.name).mkdir()
        for source in part.glob("*.py"):
            (tmp_path / part.name / source.name).write_bytes(source.read_bytes())
    here = environment._kernel_fingerprint()
    assert environment._kernel_fingerprint() == here
    monkeypatch.setattr(environment, "COMPILED", [tmp_path / part.name for part in environment.COMPILED])
    assert environment._kernel_fingerprint() != here
