"""Read-only checks of a machine and a model. Each finding says what to do about it."""

import mmap
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from tidemill.runtime.catalog import models_directory, resolve_model
from tidemill.runtime.environment import cache_directory, kernel_directory
from tidemill.runtime.memory import available_bytes, cgroup_limit_bytes, process_memory
from tidemill.runtime.private_files import NotPrivateError
from tidemill.runtime.run_directory import find_orphans
from tidemill.runtime.sizes import format_size
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest_file import load_manifest, verify_model

State = Literal["ok", "warning", "failed"]
VECTOR_FLAGS = ("avx512f", "avx2", "asimd", "neon")
FREE_BYTES_LOW = 2 << 30
SHM_BYTES_SMALL = 64 << 20
PACKAGES = (
    "numpy",
    "numba",
    "msgspec",
    "pyarrow",
    "zstandard",
    "xxhash",
    "tokenizers",
    "jinja2",
    "typer",
    "rich",
    "psutil",
)


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    state: State
    text: str


def check_machine() -> list[Finding]:
    checks = (
        _python,
        _cpu,
        _memory,
        _cgroup,
        _accounting,
        _regions,
        _shm,
        _direct_io,
        _space,
        _packages,
        _kernels,
        _leftovers,
    )
    return [check() for check in checks]


def check_model(model: str, *, deep: bool, on_bytes: Callable[[int], None]) -> list[Finding]:
    """The manifest and its shards' sizes; `deep`: every byte."""
    try:
        directory = resolve_model(model)
        manifest = load_manifest(directory)
    except (StorageError, ValueError) as error:
        return [Finding("model", "failed", str(error))]
    findings = [
        Finding("model", "ok", f"{directory}: {len(manifest.tables)} tables in {len(manifest.extents)} extents")
    ]
    if deep:
        problems = verify_model(directory, on_bytes=on_bytes)
        findings += [Finding("checksums", "failed", problem) for problem in problems]
        if not problems:
            findings.append(Finding("checksums", "ok", "every byte is as it was written"))
    return findings


def _python() -> Finding:
    system = f"Python {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform != "linux":
        return Finding("system", "warning", f"{system}: only Linux is tested")
    return Finding("system", "ok", system)


def _cpu() -> Finding:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Finding("cpu", "warning", f"{os.cpu_count()} cores; vector extensions unknown")
    words = set(text.split())
    found = [flag for flag in VECTOR_FLAGS if flag in words]
    state: State = "ok" if found else "warning"
    return Finding(
        "cpu", state, f"{os.cpu_count()} cores, {', '.join(found) or 'no known vector extension: kernels will be slow'}"
    )


def _memory() -> Finding:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    text = f"{format_size(memory.total)}, {format_size(available_bytes())} available, swap {format_size(swap.total)}"
    if swap.percent > 50:
        return Finding("memory", "warning", f"{text}; swap is in use: close something before giving a large --ram")
    return Finding("memory", "ok", text)


def _cgroup() -> Finding:
    limit = cgroup_limit_bytes()
    return Finding(
        "cgroup",
        "ok",
        "no memory limit" if limit is None else f"memory limit {format_size(limit)}: keep --ram below it",
    )


def _accounting() -> Finding:
    if process_memory(os.getpid()) is None:
        return Finding(
            "accounting",
            "warning",
            "/proc/PID/smaps_rollup can't be read: the ledger estimates processes, peaks are not shown",
        )
    return Finding("accounting", "ok", "memory of processes can be measured")


def _regions() -> Finding:
    if not hasattr(os, "memfd_create"):
        return Finding("shared memory", "warning", "no memfd: regions become files in the run directory")
    try:
        os.close(os.memfd_create("tidemill-doctor"))
    except OSError as error:
        return Finding("shared memory", "failed", f"memfd_create is refused: {error.strerror}; a sandbox may forbid it")
    return Finding("shared memory", "ok", "memfd works; /dev/shm is not used")


def _shm() -> Finding:
    try:
        size = shutil.disk_usage("/dev/shm").total
    except OSError:
        return Finding("/dev/shm", "ok", "missing, and not needed")
    small = " (small; other software may mind, tidemill does not)" if size <= SHM_BYTES_SMALL else ""
    return Finding("/dev/shm", "ok", f"{format_size(size)}{small}")


def _direct_io() -> Finding:
    """Try a direct read where models live: of a shard if there is one, else of a file that exists for a moment."""
    root = models_directory()
    shard = next(iter(sorted(root.glob("*/shards/*.arrow"))), None) if root.is_dir() else None
    place = root if root.is_dir() else next(parent for parent in root.parents if parent.is_dir())
    try:
        if shard is not None:
            _read_direct(shard)
        else:
            with tempfile.NamedTemporaryFile(dir=place) as file:
                file.write(bytes(4096))
                file.flush()
                _read_direct(Path(file.name))
    except OSError as error:
        return Finding(
            "direct I/O",
            "warning",
            f"{place}: {error.strerror}; reads will be buffered, which is slower under a tight ceiling",
        )
    return Finding("direct I/O", "ok", f"{place} takes O_DIRECT")


def _read_direct(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as page:
            os.preadv(fd, [page], 0)
    finally:
        os.close(fd)


def _space() -> Finding:
    root = cache_directory()
    place = next(path for path in (root, *root.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    state: State = "warning" if free < FREE_BYTES_LOW else "ok"
    return Finding("disk", state, f"{format_size(free)} free in {place}")


def _packages() -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "failed", f"missing: {', '.join(missing)}; install tidemill again")
    return Finding("packages", "ok", ", ".join(found))


def _kernels() -> Finding:
    directory = kernel_directory()
    if any(directory.glob("compiled-*")):
        return Finding("kernels", "ok", f"compiled, in {directory}")
    return Finding("kernels", "ok", f"not compiled yet: the first run does it, in {directory}")


def _leftovers() -> Finding:
    try:
        orphans = find_orphans()
    except NotPrivateError as error:
        return Finding("leftovers", "failed", str(error))
    if orphans:
        return Finding(
            "leftovers", "warning", f"{len(orphans)} run directories of engines that are gone: tidemill clean"
        )
    return Finding("leftovers", "ok", "none")
