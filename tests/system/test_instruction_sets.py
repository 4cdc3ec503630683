"""The same kernels, compiled for another CPU, give the same bits: a sum's order is theirs and no compiler's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding

from tests.fakes.models import write_tiny_model

pytestmark = [pytest.mark.system, pytest.mark.slow]

NARROW = "haswell"  # AVX2: 16 registers of 8 floats
PROGRAM = """
import sys
from pathlib import Path
from tests.fakes.resident import logits_of, resident_decoder
from tidemill.actors.compute.kernels.tiles import TILE_ROWS
from tidemill.storage.checksums import digest_int
prompt = list(range(3, 43))
for directory in sys.argv[1:]:
    decoder = resident_decoder(Path(directory), chunk=40)
    first = logits_of(decoder, prompt[:1], 0)
    print(TILE_ROWS, digest_int(first.data), digest_int(logits_of(decoder, prompt[1:], 1).data))
"""

NEON = """
import re
import numba
import numpy as np
from llvmlite import binding
from tidemill.actors.compute.kernels.plane_tiles import TILE_SIZES, dot_tile
@numba.njit
def dots(arena, words, x, out):
    dot_tile(arena, words, 0, 128, 110, 2, 0, 1, 0, 64, x, 1, out, 0, 2)
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
triple = "aarch64-unknown-linux-gnu"
arena, words, x = np.zeros(512, np.uint8), np.zeros(128, np.uint32), np.zeros(64, np.float32)
dots(arena, words, x, x[:2])
(code,) = dots.inspect_llvm().values()
code = re.sub("target datalayout = .*", "", code)
code = re.sub("target triple = .*", f'target triple = "{triple}"', code)
machine = binding.Target.from_triple(triple).create_target_machine(cpu="cortex-a76", opt=3)
assembly = machine.emit_assembly(binding.parse_assembly(code))
print(sum(TILE_SIZES), assembly.count("fmla"), assembly.count("fmadd"), assembly.count("fmaf"))
"""


def _digests(models: list[Path], cpu: dict[str, str]) -> list[list[str]]:
    """For each model: rows of a tile, checksum of the logits of one position, and of those of a batch."""
    output = _run(PROGRAM, cpu, *map(str, models))
    return [line.split() for line in output.splitlines()]


def _run(program: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not binding.get_host_cpu_features().get("avx2", False), reason="needs a CPU that can run AVX2 code")
def test_avx2_gives_the_bits_of_this_cpu(tmp_path: Path) -> None:
    models = [tmp_path / codec for codec in ("raw", "bf16-planes")]
    for model in models:
        write_tiny_model(model, codec=model.name)
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "narrow")}
    narrow = cache | {
        "NUMBA_CPU_NAME": NARROW,
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+sse4.2,+popcnt",
    }
    here = _digests(models, {})
    there = _digests(models, narrow)
    assert [row[1:] for row in there] == [row[1:] for row in here]
    assert all(row[0] == "2" for row in there), "the narrow tiles were not what ran"


def test_rows_of_planes_compile_for_neon(tmp_path: Path) -> None:
    """Not run here, but its multiply-adds are the vectors' own: none is a scalar or a call. Generic code (no passes for
    this CPU) is what can be compiled for another."""
    positions, vectors, scalars, calls = _run(NEON, {"NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}).split()
    assert int(vectors) >= 32 * int(positions)  # of two rows, four vectors of 16 floats a block, four registers each
    assert (scalars, calls) == ("0", "0")
