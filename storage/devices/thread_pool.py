"""The flash device: a pool of threads that `preadv` with O_DIRECT straight into arena slots, verify and decode."""

import contextlib
import errno
import fcntl
import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up
from tidemill.storage.checksums import verify_blocks
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.device import LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.huge_pages import huge_page_buffer
from tidemill.storage.devices.prefault import Prefaulter
from tidemill.storage.errors import DeviceError, StorageError
from tidemill.storage.manifest import ALIGNMENT_BYTES

O_DIRECT = getattr(os, "O_DIRECT", 0)


class ThreadPoolDevice:
    """Implements FlashDevice. Each of `depth` threads has at most one read under way; the rest queue, urgent ones
    first.

    Direct reads need nothing but 4096-alignment of offset, length and address, which the format and the arena plan
    give. Staged ones go into 2 MiB pages first: docs/decisions/0010.
    Where the file system refuses O_DIRECT, `load_mode` becomes "buffered" and the page cache is told to drop what was
    read.
    Raises ValueError for an arena that direct reads cannot go to: every one of them would be refused, and the device
    would be buffered without anybody having asked for it.
    """

    def __init__(
        self, shards: Sequence[Path], arena: npt.NDArray[np.uint8], *, depth: int, load_mode: LoadMode
    ) -> None:
        self._shards = list(shards)
        self._arena = arena.data
        self._mode: LoadMode = load_mode if O_DIRECT else "buffered"
        if self._mode == "direct" and arena.ctypes.data % ALIGNMENT_BYTES:
            raise ValueError(
                f"the arena starts {arena.ctypes.data % ALIGNMENT_BYTES} bytes past a multiple of {ALIGNMENT_BYTES}, "
                "where direct reads cannot go; map it at a page, or use load mode buffered"
            )
        self._prefaulter = Prefaulter(arena.ctypes.data)
        self._files: dict[int, int] = {}
        self._lock = threading.Condition()
        self._queue: list[tuple[bool, int, ReadRequest]] = []  # heap: not urgent, order of arrival, request
        self._arrivals = 0
        self._outcomes: deque[ReadOutcome] = deque()
        self._cancelled: set[int] = set()
        self._closing = False
        self._active = 0
        self._busy_ns = 0
        self._busy_since = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._threads = [threading.Thread(target=self._work, name=f"flash-{i}", daemon=True) for i in range(depth)]
        for thread in self._threads:
            thread.start()

    @property
    def load_mode(self) -> LoadMode:
        return self._mode

    @property
    def busy_ns(self) -> int:
        with self._lock:
            return self._busy_ns + (time.perf_counter_ns() - self._busy_since if self._active else 0)

    @property
    def wake_fds(self) -> Sequence[int]:
        return (self._wake_read,)

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        with self._lock:
            heapq.heappush(self._queue, (not urgent, self._arrivals, request))
            self._arrivals += 1
            self._lock.notify()

    def cancel(self, ticket: int) -> None:
        with self._lock:
            if any(request.ticket == ticket for _, _, request in self._queue):
                self._cancelled.add(ticket)

    def outcomes(self) -> Sequence[ReadOutcome]:
        """What ended since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        done: list[ReadOutcome] = []
        while self._outcomes:
            done.append(self._outcomes.popleft())
        return done

    def close(self) -> None:
        """Wait for reads under way, end the threads, close every file. Closing twice is fine."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()
        for fd in (*self._files.values(), self._wake_read, self._wake_write):
            os.close(fd)

    # --- in the threads

    def _work(self) -> None:
        bounce = _Bounce()
        while (request := self._take()) is not None:
            error: str | None = None
            cancelled = request.ticket in self._cancelled
            if not cancelled:
                try:
                    self._read(request, bounce)
                except (StorageError, OSError) as failure:
                    error = str(failure)
                except Exception as failure:  # noqa: BLE001  # an unanswered ticket would be waited for for ever
                    error = f"{type(failure).__name__}: {failure}"
            self._give(ReadOutcome(request.ticket, error, cancelled))
        bounce.close()

    def _take(self) -> ReadRequest | None:
        with self._lock:
            while not self._queue and not self._closing:
                self._lock.wait()
            if self._closing:
                return None
            if self._active == 0:
                self._busy_since = time.perf_counter_ns()
            self._active += 1
            return heapq.heappop(self._queue)[2]

    def _give(self, outcome: ReadOutcome) -> None:
        with self._lock:
            self._active -= 1
            if self._active == 0:
                self._busy_ns += time.perf_counter_ns() - self._busy_since
            self._cancelled.discard(outcome.ticket)
            self._outcomes.append(outcome)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def _read(self, request: ReadRequest, bounce: "_Bounce") -> None:
        length = align_up(request.stored_bytes)
        codec = get_codec(request.codec)
        placed = self._arena[request.destination : request.destination + request.decoded_bytes]
        is_copied = self._mode == "staged" or not codec.is_identity
        slot = self._arena[request.destination : request.destination + length]
        target = bounce.take(length) if is_copied else slot
        if request.destination + length <= len(self._arena):
            self._prefaulter.populate(request.destination, length)
        self._fill(request, target)
        stored = target[: request.stored_bytes]
        where = f"{self._shards[request.shard]} at offset {request.offset}"
        verify_blocks(stored, request.checksums, request.checksum_block_bytes, where)
        if is_copied:
            codec.decode(0, stored, placed)
        if request.check is not None:
            request.check(placed)

    def _fill(self, request: ReadRequest, target: memoryview) -> None:
        """Read until `stored_bytes` are there. A short read that is not the end of the file is gone on with.

        A direct read goes on at a page, so it reads the end of a short one again; the file ends where that gets no
        further.
        """
        start = reached = 0
        while reached < request.stored_bytes:
            got = self._preadv(request.shard, target[start:], request.offset + start)
            if start + got <= reached:
                raise DeviceError(
                    f"{self._shards[request.shard]} ends at offset {request.offset + reached}, expected "
                    f"{request.stored_bytes} bytes from {request.offset}; the file is truncated"
                )
            reached = start + got
            start = reached if self._mode == "buffered" else reached - reached % ALIGNMENT_BYTES
        if self._mode == "buffered":
            os.posix_fadvise(self._fd(request.shard), request.offset, len(target), os.POSIX_FADV_DONTNEED)

    def _preadv(self, shard: int, target: memoryview, offset: int) -> int:
        fd = self._fd(shard)
        was_direct = self._mode != "buffered"  # before the read: another thread may fall back while this one is refused
        try:
            return os.preadv(fd, [target], offset)
        except OSError as error:
            if error.errno == errno.EINVAL and was_direct:
                self._fall_back()
                return self._preadv(shard, target, offset)
            raise DeviceError(f"{self._shards[shard]} at offset {offset}: {error.strerror}") from error

    def _fd(self, shard: int) -> int:
        with self._lock:
            fd = self._files.get(shard)
            if fd is None:
                fd = self._files[shard] = self._open(self._shards[shard])
            return fd

    def _open(self, path: Path) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            if self._mode != "buffered":
                try:
                    return os.open(path, flags | O_DIRECT)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self._mode = "buffered"
            return os.open(path, flags)
        except OSError as error:
            raise DeviceError(f"{path} cannot be opened: {error.strerror}") from error

    def _fall_back(self) -> None:
        """The file system takes O_DIRECT at open and refuses the read: use the page cache from here on."""
        with self._lock:
            self._mode = "buffered"
            for fd in self._files.values():
                _clear_direct(fd)


class _Bounce:
    """A thread's own buffer for stored bytes that are not read into their slot; grows to the largest extent."""

    def __init__(self) -> None:
        self._buffer = memoryview(b"")

    def take(self, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = huge_page_buffer(length)
        return self._buffer[:length]

    def close(self) -> None:
        self._buffer = memoryview(b"")


def _clear_direct(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~O_DIRECT)
