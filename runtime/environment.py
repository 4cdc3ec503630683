"""The one module that reads and makes environment variables (but for TIDEMILL_*, which the command line declares)."""

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tidemill.storage.checksums import digest

ROOT = Path(__file__).parent.parent
CPU_INFO = Path("/proc/cpuinfo")
# Where there are sources of compiled code.
COMPILED = (ROOT / "actors" / "compute" / "kernels", ROOT / "storage" / "devices" / "native")

# How often libgomp's threads look for work before they sleep: some microseconds. Why: docs/decisions/0008.
SPIN_COUNT = "2000"


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/tidemill`, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidemill"


@cache
def kernel_directory() -> Path:
    """Compiled kernels of exactly this version, place and processor: numba looks at a kernel's own file only, and would
    go on with one whose parts have changed; of a copy elsewhere, or on another processor, it compiles again."""
    return kernels_directory() / _kernel_fingerprint()


def kernels_directory() -> Path:
    """Compiled kernels of all versions."""
    return cache_directory() / "kernels"


def _kernel_fingerprint() -> str:
    sources = [path for place in COMPILED for path in sorted(place.glob("*.py"))]
    written = [(str(path), path.stat().st_mtime_ns) for path in sources]
    about = repr((written, version("numba"), version("llvmlite"), sys.version, _processor()))
    return digest(b"".join(path.read_bytes() for path in sources) + about.encode())


def _processor() -> str:
    """What decides which instructions are compiled for."""
    try:
        lines = CPU_INFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))


def kernel_settings(threads: int) -> Mapping[str, str]:
    """What numba and its thread pool read when they are imported."""
    return {
        "NUMBA_CACHE_DIR": str(kernel_directory()),
        "NUMBA_NUM_THREADS": str(threads),
        "NUMBA_THREADING_LAYER_PRIORITY": "omp tbb workqueue",
        "GOMP_SPINCOUNT": SPIN_COUNT,
    }


def child_environment(threads: int) -> dict[str, str]:
    """An actor's environment: ours, without libraries' own thread pools and with few malloc arenas (they cost
    memory)."""
    return {
        **os.environ,
        **kernel_settings(threads),
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONUNBUFFERED": "1",
    }


def use_kernel_settings(threads: int) -> None:
    """For the in-process launcher: set them here, before numba is imported."""
    os.environ.update(kernel_settings(threads))
