"""A file of random bytes to read, without a name from its first moment: nothing is left by any death. Unlike tune's it
has exactly the size that was asked for, or is refused."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tidemill.runtime.sizes import format_size
from tidemill.runtime.tuning.scratch_file import NoScratchSpaceError
from tidemill.storage.codecs.bundle_digest import seal_bundles
from tidemill.storage.errors import DeviceError

PIECE_BYTES = 4 << 20
KEPT_FREE = 0.05  # of a file system: one that is full harms others


@contextmanager
def scratch_file(
    directory: Path, size: int, on_bytes: Callable[[int], None], *, bundle_bytes: int = 0
) -> Iterator[Path]:
    """A path that opens the file, for this process and those of the same user; written through to the drive.

    `bundle_bytes`: it holds single bundles of table 0, each with its digest; 0: nothing but random bytes.
    Raises NoScratchSpaceError, DeviceError.
    """
    check_room(directory, size)
    fd, name = tempfile.mkstemp(prefix=".stress-", dir=directory)
    os.unlink(name)  # the open descriptor keeps it; /proc opens it again with the flags that the device wants
    try:
        _fill(fd, size, bundle_bytes, on_bytes, directory)
        yield Path(f"/proc/{os.getpid()}/fd/{fd}")
    finally:
        os.close(fd)


def check_room(directory: Path, size: int) -> None:
    """Raises NoScratchSpaceError, DeviceError."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError as error:
        raise DeviceError(f"{directory} is no directory for a scratch file: {error.strerror}") from None
    if size > usage.free - KEPT_FREE * usage.total:
        raise NoScratchSpaceError(
            f"a scratch file of {format_size(size)} does not fit {directory}, where {format_size(usage.free)} are free "
            "and 5 % are left to others; give a smaller --size, or another --directory"
        )


def _fill(fd: int, size: int, bundle_bytes: int, on_bytes: Callable[[int], None], directory: Path) -> None:
    """Random, so that neither compression nor deduplication makes reads cheaper; then out of the page cache."""
    rng = np.random.default_rng(0)
    unit = bundle_bytes or 1
    piece_bytes = max(1, PIECE_BYTES // unit) * unit
    done = 0
    try:
        while done < size:
            piece = np.frombuffer(bytearray(rng.bytes(min(piece_bytes, size - done))), np.uint8)
            if bundle_bytes:
                whole = len(piece) // unit * unit
                seal_bundles(piece[:whole].reshape(-1, unit), 0, done // unit)
            _write(fd, piece.data)
            done += len(piece)
            on_bytes(done)
        os.fdatasync(fd)
    except OSError as error:
        what = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise DeviceError(
            f"a scratch file in {directory} could not be written beyond {format_size(done)} of {format_size(size)}: "
            f"{what}; it is removed. Give a smaller --size, or another --directory"
        ) from None
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _write(fd: int, block: memoryview) -> None:
    while block:
        block = block[os.write(fd, block) :]
