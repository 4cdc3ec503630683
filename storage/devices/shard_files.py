"""The shards of a model as open files: reads past the page cache where the file system allows it, whole or an error."""

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.devices.device import LoadMode
from tidemill.storage.errors import DeviceError, read_error, short_read_error
from tidemill.storage.manifest import ALIGNMENT_BYTES

O_DIRECT = getattr(os, "O_DIRECT", 0)


class ShardFiles:
    """Opened when first read, by any thread. Where O_DIRECT is refused, `load_mode` becomes "buffered" for all of them,
    and the page cache is told to drop what was read."""

    def __init__(self, paths: Sequence[Path], load_mode: LoadMode) -> None:
        self._paths = list(paths)
        self.load_mode: LoadMode = load_mode if O_DIRECT else "buffered"
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()

    def path(self, shard: int) -> Path:
        return self._paths[shard]

    def fill(self, shard: int, offset: int, needed: int, target: memoryview) -> None:
        """Read from `offset` until `needed` bytes are in `target`. A short read that is not the end of the file is gone
        on with. Raises DeviceError that says where.

        A direct read goes on at a page, so it reads the end of a short one again; the file ends where that gets no
        further.
        """
        start = reached = 0
        while reached < needed:
            got = self._preadv(shard, target[start:], offset + start)
            if start + got <= reached:
                raise self.short_read(shard, offset, needed=needed, reached=reached)
            reached = start + got
            start = reached if self.load_mode == "buffered" else reached - reached % ALIGNMENT_BYTES
        if self.load_mode == "buffered":
            os.posix_fadvise(self._fd(shard), offset, len(target), os.POSIX_FADV_DONTNEED)

    def short_read(self, shard: int, offset: int, *, needed: int, reached: int) -> DeviceError:
        size = os.fstat(self._fd(shard)).st_size
        return short_read_error(str(self._paths[shard]), offset, needed=needed, reached=reached, file_bytes=size)

    def descriptors(self, shards: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of the files that reads of these shards go to."""
        numbers, places = np.unique(shards, return_inverse=True)
        return np.array([self._fd(shard) for shard in numbers.tolist()], np.int64)[places]

    def fall_back(self) -> None:
        """The file system takes O_DIRECT at open and refuses the read: use the page cache from here on."""
        with self._lock:
            self.load_mode = "buffered"
            for fd in self._files.values():
                fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~O_DIRECT)

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _preadv(self, shard: int, target: memoryview, offset: int) -> int:
        fd = self._fd(shard)
        was_direct = self.load_mode != "buffered"  # before the read: another thread may fall back while it is refused
        try:
            return os.preadv(fd, [target], offset)
        except OSError as error:
            if error.errno == errno.EINVAL and was_direct:
                self.fall_back()
                return self._preadv(shard, target, offset)
            raise read_error(f"{self._paths[shard]} at offset {offset}", error.errno or errno.EIO) from error

    def _fd(self, shard: int) -> int:
        with self._lock:
            fd = self._files.get(shard)
            if fd is None:
                fd = self._files[shard] = self._open(self._paths[shard])
            return fd

    def _open(self, path: Path) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            if self.load_mode != "buffered":
                try:
                    return os.open(path, flags | O_DIRECT)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self.load_mode = "buffered"
            return os.open(path, flags)
        except OSError as error:
            raise DeviceError(f"{path} cannot be opened: {error.strerror}") from error
