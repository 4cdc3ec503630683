"""The flash device: a pool of threads that `preadv` with O_DIRECT straight into arena slots, verify and decode."""

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
from tidemill.storage.devices.gather import GatherPart, GatherPlacer, GatherRequest, split_gather
from tidemill.storage.devices.huge_pages import huge_page_buffer
from tidemill.storage.devices.prefault import Prefaulter
from tidemill.storage.devices.shard_files import ShardFiles
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest import ALIGNMENT_BYTES

POPULATE_BYTES = 1 << 20  # at a time, for single bundles
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
        self, shards: Sequence[Path], arena: npt.NDArray[np.uint8], *, depth: int, load_mode: LoadMode
    ) -> None:
        self._files = ShardFiles(shards, load_mode)
        self._arena = arena.data
        self._arena_bytes = arena
        self._depth = depth
        if self._files.load_mode == "direct" and arena.ctypes.data % ALIGNMENT_BYTES:
            raise ValueError(
                f"the arena starts {arena.ctypes.data % ALIGNMENT_BYTES} bytes past a multiple of {ALIGNMENT_BYTES}, "
                "where direct reads cannot go; map it at a page, or use load mode buffered"
            )
        self._prefaulter = Prefaulter(arena.ctypes.data)
        self._lock = threading.Condition()
        self._queue: list[tuple[bool, int, Work]] = []  # heap: not urgent, order of arrival, work
        self._gathers: dict[int, _Gather] = {}  # those with parts to come, by ticket
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
        parts = split_gather(request, self._depth)
        with self._lock:
            self._gathers[request.ticket] = _Gather(len(parts))
            for part in parts:
                self._push(part, urgent=urgent)
            self._lock.notify_all()

    def cancel(self, ticket: int) -> None:
        with self._lock:
            if ticket in self._gathers or any(work.ticket == ticket for _, _, work in self._queue):
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
        self._files.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _push(self, work: Work, *, urgent: bool) -> None:
        heapq.heappush(self._queue, (not urgent, self._arrivals, work))
        self._arrivals += 1

    # --- in the threads

    def _work(self) -> None:
        bounce = _Bounce()
        while (work := self._take()) is not None:
            error: str | None = None
            cancelled = work.ticket in self._cancelled
            if not cancelled:
                try:
                    if isinstance(work, GatherPart):
                        cancelled = not self._gather(work, bounce)
                    else:
                        self._read(work, bounce)
                except (StorageError, OSError) as failure:
                    error = str(failure)
                except Exception as failure:  # noqa: BLE001  # an unanswered ticket would be waited for for ever
                    error = f"{type(failure).__name__}: {failure}"
            self._give(ReadOutcome(work.ticket, error, cancelled))
        bounce.close()

    def _take(self) -> Work | None:
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
            gather = self._gathers.get(outcome.ticket)
            if gather is not None:
                outcome = gather.add(outcome)
                if gather.parts_left:
                    return
                del self._gathers[outcome.ticket]
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

    def _gather(self, part: GatherPart, bounce: "_Bounce") -> bool:
        """False when it was cancelled on the way."""
        request = part.request
        self._populate(request, int(request.edges[part.first]), int(request.edges[part.last]))
        placer = GatherPlacer(request, self._arena_bytes)
        shards: list[int] = request.shards.tolist()
        offsets: list[int] = request.offsets.tolist()
        for read in range(part.first, part.last):
            if request.ticket in self._cancelled:
                return False
            needed = placer.needed_bytes(read)
            target = bounce.take(align_up(needed))
            self._files.fill(shards[read], offsets[read], needed, target)
            placer.place(read, target)
        if request.check_placed is not None:
            request.check_placed(self._arena_bytes, int(request.edges[part.first]), int(request.edges[part.last]))
        return True

    def _populate(self, request: GatherRequest, first: int, last: int) -> None:
        """Give the slots of these bundles their pages, with those around them: slots of a pool fill up one by one."""
        starts = request.pool_offset + request.slots[first:last] * request.bundle_bytes
        for block in np.unique([starts // POPULATE_BYTES, (starts + request.bundle_bytes - 1) // POPULATE_BYTES]):
            at = int(block) * POPULATE_BYTES
            self._prefaulter.populate(at, min(POPULATE_BYTES, len(self._arena) - at))


class _Gather:
    """The parts of a gather that are still to come, and how those before ended."""

    def __init__(self, parts: int) -> None:
        self.parts_left = parts
        self._error: str | None = None
        self._cancelled = False

    def add(self, outcome: ReadOutcome) -> ReadOutcome:
        """The outcome of all parts so far: an error if any failed, else cancelled if any was."""
        self.parts_left -= 1
        self._error = self._error or outcome.error
        self._cancelled = self._cancelled or outcome.cancelled
        return ReadOutcome(outcome.ticket, self._error, self._cancelled and self._error is None)


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
