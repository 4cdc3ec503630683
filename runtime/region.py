"""Shared memory without traps: memfds attached by name through /proc, mapped as numpy arrays.

They don't depend on the size of /dev/shm and vanish with the last process, however it ends. Where the system has no
memfd, a file in the run directory serves.
"""

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.runtime.private_files import check_private


class RegionRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How another process of the same user finds a region."""

    path: str
    bytes: int


class RegionError(OSError):
    """A region cannot be created or attached."""


class Region:
    """The creator's fd keeps the region alive; `close` gives fd and mapping up (views that still exist keep theirs)."""

    def __init__(self, fd: int, size: int, path: str) -> None:
        """Takes `fd` over: it is closed here when it cannot be mapped."""
        self._fd = fd
        self._path = path
        self.bytes = size
        try:
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(cls, name: str, size: int, directory: Path) -> "Region":
        """A zeroed region of `size` bytes (rounded up to pages). Raises RegionError naming the size."""
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            if hasattr(os, "memfd_create"):
                fd = os.memfd_create(f"tidemill-{name}", os.MFD_CLOEXEC)
                _or_close(fd, lambda: _shape(fd, size))
                return cls(fd, size, f"/proc/{os.getpid()}/fd/{fd}")
            path = directory / f"region-{name}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            _or_close(fd, lambda: os.posix_fallocate(fd, 0, size))  # a full disk is an error here, not a SIGBUS later
            return cls(fd, size, str(path))
        except OSError as error:
            raise RegionError(
                f"cannot create the shared region {name!r} of {size / 2**20:.1f} MiB: {error.strerror}; give a "
                "smaller --ram or -c"
            ) from error

    @classmethod
    def attach(cls, ref: RegionRef) -> "Region":
        """Raises RegionError for one that is gone, smaller than `ref` says, or open to others than this user."""
        try:
            fd = os.open(ref.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            _or_close(fd, lambda: _check(fd, ref))
            return cls(fd, ref.bytes, ref.path)
        except (OSError, ValueError) as error:
            raise RegionError(
                f"cannot attach the shared region {ref.path}: {error}; its owner may have ended"
            ) from error

    @property
    def ref(self) -> RegionRef:
        return RegionRef(self._path, self.bytes)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._map, np.uint8)

    @property
    def view(self) -> memoryview:
        return memoryview(self._map)

    def advise_huge_pages(self) -> None:
        """Ask for 2 MiB pages: fewer TLB misses when weights are swept. Systems that don't have them ignore it."""
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self._map.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                pass  # not supported for shared memory here

    def close(self) -> None:
        """Closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self._map.close()
        except BufferError:
            pass  # a numpy view is still alive: the mapping goes with it


def _shape(fd: int, size: int) -> None:
    """A memfd as large as it has to be, for this user alone: others may open it by /proc where its mode lets them."""
    os.ftruncate(fd, size)
    os.fchmod(fd, 0o600)


def _check(fd: int, ref: RegionRef) -> None:
    status = os.fstat(fd)
    check_private(status, ref.path, stat.S_IFREG)
    if not 0 < ref.bytes <= status.st_size:  # touching what lies beyond its end would kill the process
        raise OSError(f"it has {status.st_size} bytes, expected {ref.bytes} at least")


def _or_close(fd: int, act: Callable[[], None]) -> None:
    try:
        act()
    except OSError:
        os.close(fd)
        raise
