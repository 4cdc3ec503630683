"""The flash device: a pool of threads that `preadv` with O_DIRECT straight into arena slots, verify and decode; single
bundles they gather with compiled code."""

import contextlib
import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up
from tidemill.storage.checksums import verify_blocks
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.device import LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import GatherPart, GatherRequest
from tidemill.storage.devices.gather_pool import BUFFER_BYTES, GatherPool
from tidemill.storage.devices.huge_pages import huge_page_buffer
from tidemill.storage.devices.native.order import GatherFunction
from tidemill.storage.devices.prefault import Prefaulter
from tidemill.storage.devices.shard_files import ShardFiles
from tidemill.storage.errors import FailureKind, StorageError, failure_kind
from tidemill.storage.manifest import ALIGNMENT_BYTES

Work = ReadRequest | GatherPart


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
        self,
        shards: Sequence[Path],
        arena: npt.NDArray[np.uint8],
        *,
        depth: int,
        load_mode: LoadMode,
        code: GatherFunction | None = None,
    ) -> None:
        """`code` is for gathers, which are refused without."""
        self._files = ShardFiles(shards, load_mode)
        self._arena = arena.data
        if self._files.load_mode == "direct" and arena.ctypes.data % ALIGNMENT_BYTES:
            raise ValueError(
                f"the arena starts {arena.ctypes.data % ALIGNMENT_BYTES} bytes past a multiple of {ALIGNMENT_BYTES}, "
                "where direct reads cannot go; map it at a page, or use load mode buffered"
            )
        self._prefaulter = Prefaulter(arena.ctypes.data)
        self._lock = threading.Condition()
        self._queue: list[tuple[bool, int, Work]] = []  # heap: not urgent, order of arrival, work
        self._waiting: deque[tuple[bool, int, GatherPart]] = deque()  # gathers that are not urgent
        self._gathers = GatherPool(code, self._files, arena, depth) if code is not None else None
        self._background = 0  # of those, under way
        self._urgent: set[int] = set()  # tickets
        self._arrivals = 0
        self._outcomes: deque[ReadOutcome] = deque()
        self._cancelled: set[int] = set()
        self._closing = False
        self._active = 0
        self._busy_ns = 0
        self._busy_since = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"flash-{i}", daemon=True) for i in range(depth)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def load_mode(self) -> LoadMode:
        return self._files.load_mode

    @property
    def busy_ns(self) -> int:
        with self._lock:
            return self._busy_ns + (time.perf_counter_ns() - self._busy_since if self._active else 0)

    @property
    def wake_fds(self) -> Sequence[int]:
        return (self._wake_read,)

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        with self._lock:
            self._push(request, urgent=urgent)
            self._lock.notify()

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        """Raises ValueError for a device without code, or what GatherPool.open says."""
        if self._gathers is None:
            raise ValueError("this device was made without code for gathers")
        with self._lock:
            for part in self._gathers.open(request, urgent=urgent):
                self._push(part, urgent=urgent)
            self._lock.notify_all()

    def cancel(self, ticket: int) -> None:
        with self._lock:
            is_gather = self._gathers is not None and self._gathers.cancel(ticket)
            if is_gather or any(work.ticket == ticket for _, _, work in self._queue):
                self._cancelled.add(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        with self._lock:
            self._queue = [(later and work.ticket not in tickets, at, work) for later, at, work in self._queue]
            heapq.heapify(self._queue)

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
        if self._gathers is not None:
            self._gathers.close()
        self._files.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _push(self, work: Work, *, urgent: bool) -> None:
        if isinstance(work, GatherPart) and not urgent:
            self._waiting.append((True, self._arrivals, work))
        else:
            heapq.heappush(self._queue, (not urgent, self._arrivals, work))
        self._arrivals += 1
        if urgent:
            self._urgent.add(work.ticket)
            self._count_urgent()

    def _count_urgent(self) -> None:
        if self._gathers is not None:
            self._gathers.urgent[0] = len(self._urgent)

    # --- in the threads

    def _work(self, thread: int) -> None:
        bounce = _Bounce()
        while (work := self._take()) is not None:
            begun_ns = time.perf_counter_ns()
            error: str | None = None
            kind: FailureKind | None = None
            failed_read: int | None = None
            cancelled = work.ticket in self._cancelled
            if not cancelled:
                try:
                    if isinstance(work, GatherPart):
                        cancelled = not self._gather(work, thread, bounce)
                    else:
                        self._read(work, bounce)
                except (StorageError, OSError) as failure:
                    error, kind = str(failure), failure_kind(failure)
                    failed_read = failure.gather_read if isinstance(failure, StorageError) else None
                except Exception as failure:  # noqa: BLE001  # an unanswered ticket would be waited for for ever
                    error, kind = f"{type(failure).__name__}: {failure}", "final"
            ended_ns = time.perf_counter_ns()
            self._give(work, ReadOutcome(work.ticket, error, cancelled, begun_ns, ended_ns, kind, failed_read))
        bounce.close()

    def _take(self) -> Work | None:
        with self._lock:
            while (work := self._next()) is None and not self._closing:
                self._lock.wait()
            if self._closing:
                return None
            if self._active == 0:
                self._busy_since = time.perf_counter_ns()
            self._active += 1
            return work

    def _next(self) -> Work | None:
        """What is to be done now, if anything is: urgent first, then in order of arrival."""
        if self._closing:
            return None
        may_gather = self._gathers is not None and self._background < self._gathers.background_gathers
        if self._waiting and may_gather and (not self._queue or self._waiting[0][:2] < self._queue[0][:2]):
            self._background += 1
            return self._waiting.popleft()[2]
        return heapq.heappop(self._queue)[2] if self._queue else None

    def _give(self, work: Work, outcome: ReadOutcome) -> None:
        with self._lock:
            self._active -= 1
            if self._active == 0:
                self._busy_ns += time.perf_counter_ns() - self._busy_since
            if isinstance(work, GatherPart):
                if not work.is_urgent:
                    self._background -= 1
                    self._lock.notify()
                assert self._gathers is not None
                whole = self._gathers.add(outcome)
                if whole is None:
                    return
                outcome = whole
            self._cancelled.discard(outcome.ticket)
            self._urgent.discard(outcome.ticket)
            self._count_urgent()
            self._outcomes.append(outcome)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def _gather(self, part: GatherPart, thread: int, bounce: "_Bounce") -> bool:
        """False when it was cancelled on the way."""
        assert self._gathers is not None
        return self._gathers.run(part, thread, bounce.take(max(BUFFER_BYTES, part.request.read_bytes_max)))

    def _read(self, request: ReadRequest, bounce: "_Bounce") -> None:
        length = align_up(request.stored_bytes)
        codec = get_codec(request.codec)
        placed = self._arena[request.destination : request.destination + request.decoded_bytes]
        is_copied = self._files.load_mode == "staged" or not codec.is_identity
        slot = self._arena[request.destination : request.destination + length]
        target = bounce.take(length) if is_copied else slot
        if request.destination + length <= len(self._arena):
            self._prefaulter.populate(request.destination, length)
        self._files.fill(request.shard, request.offset, request.stored_bytes, target)
        stored = target[: request.stored_bytes]
        where = f"{self._files.path(request.shard)} at offset {request.offset}"
        verify_blocks(stored, request.checksums, request.checksum_block_bytes, where)
        if is_copied:
            codec.decode(0, stored, placed)
        if request.check is not None:
            request.check(placed)


class _Bounce:
    """A thread's own buffer for stored bytes that are not read into their slot; grows to the largest read."""

    def __init__(self) -> None:
        self._buffer = memoryview(b"")

    def take(self, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = huge_page_buffer(length)
        return self._buffer[:length]

    def close(self) -> None:
        self._buffer = memoryview(b"")
