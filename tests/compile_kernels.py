"""`python -m tests.compile_kernels`: compiles what tests use, on every core at once, into the cache that they read.

Without, the first test that needs a kernel compiles it, one kernel after the other on one core: some two minutes.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from numba.core import caching

from tidemill.runtime.environment import child_environment, kernel_directory

THREADS = min(2, len(os.sched_getaffinity(0)))  # as tests/conftest.py
STEPS = "steps"
BUNDLES = ("bf16-bundles", "bf16", "f16", "f32")
JOBS = ("bf16-planes", "bf16", "fp16-planes", STEPS, *(f"{kind}:neurons" for kind in BUNDLES),
        *(f"{kind}:channels" for kind in BUNDLES), "f32", "f16")  # fmt: skip


class OneWriter(caching.IndexDataCacheFile):  # type: ignore[misc]
    """numba's own does not expect that another process writes the same index: one of two entries would be lost."""

    def save(self, key: object, data: object) -> None:
        with (kernel_directory() / "writing").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            super().save(key, data)


def compile_kind(kind: str) -> None:
    caching.IndexDataCacheFile = OneWriter  # before kernels are imported, which opens their caches
    from tidemill.actors.compute.kernels.warm_up import warm_kind, warm_steps

    if kind == STEPS:
        warm_steps(THREADS)
    else:
        warm_kind(kind, THREADS, selects=kind in ("bf16-planes", "bf16"), draft_planes=True)


def compile_all() -> int:
    mark = kernel_directory() / "compiled-for-tests"
    if mark.exists():
        return 0
    kernel_directory().mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.compile_kernels"]

    def run(kind: str) -> int:
        return subprocess.run([*command, kind], env=child_environment(THREADS), check=False).returncode

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        failed = any(pool.map(run, JOBS))
    if not failed:
        mark.touch()
    return int(failed)


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        return compile_all()
    compile_kind(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
