"""A file of random bytes to measure reads on, without a name from its first moment: nothing is left by any death."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tidemill.runtime.sizes import format_size

BLOCK_BYTES = 4 << 20
FREE_SHARE = 0.25  # of a file system's free space that a scratch file may take


class NoScratchSpaceError(ValueError):
    """The file system has no room for a scratch file."""


def plan_scratch_bytes(wanted_bytes: int, free_bytes: int, directory: Path) -> int:
    """What of `wanted_bytes` fits into a quarter of the free space, in whole blocks of 4 MiB.

    Raises NoScratchSpaceError when not even one block does.
    """
    fitting = min(wanted_bytes, int(free_bytes * FREE_SHARE)) // BLOCK_BYTES * BLOCK_BYTES
    if fitting == 0:
        raise NoScratchSpaceError(
            f"a scratch file of {format_size(wanted_bytes)} in {directory} needs at least {format_size(BLOCK_BYTES)} "
            f"and a quarter of the free space, which is {format_size(free_bytes)}; free some, ask for a whole number "
            "of blocks, or measure over a model with -m"
        )
    return fitting


@contextmanager
def scratch_file(directory: Path, wanted_bytes: int) -> Iterator[tuple[Path, int]]:
    """(a path that opens the file, its bytes), written through to the device. Raises NoScratchSpaceError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    size = plan_scratch_bytes(wanted_bytes, shutil.disk_usage(directory).free, directory)
    fd, name = tempfile.mkstemp(prefix=".tune-", dir=directory)
    os.unlink(name)  # the open descriptor keeps it; /proc opens it again with the flags that the device wants
    try:
        _fill(fd, size)
        yield Path(f"/proc/{os.getpid()}/fd/{fd}"), size
    finally:
        os.close(fd)


def _fill(fd: int, size: int) -> None:
    """Random, so that neither compression nor deduplication makes reads cheaper; then out of the page cache."""
    rng = np.random.default_rng(0)
    for _ in range(size // BLOCK_BYTES):
        block = memoryview(rng.bytes(BLOCK_BYTES))
        while block:
            block = block[os.write(fd, block) :]
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
