"""Does parts of gathers with compiled code, and says in words what went wrong. Each thread has one of its own."""

import errno
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.bundle_digest import wrong_digest
from tidemill.storage.devices.gather import GatherPart, GatherRequest
from tidemill.storage.devices.native import order as o
from tidemill.storage.devices.native.system import Calls
from tidemill.storage.devices.native.xxh3_secret import SECRET
from tidemill.storage.devices.shard_files import ShardFiles
from tidemill.storage.errors import CorruptDataError, DeviceError, StorageError, read_error

GATHER_DEPTH = 64  # reads under way at once, of each part that is read asynchronously
YIELDING_DEPTH = 4  # of one that is not urgent while another is
DIGEST_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all threads of a device share. `urgent` [1] counts the urgent requests that have not been answered."""

    code: o.GatherFunction
    calls: Calls
    files: ShardFiles
    arena: npt.NDArray[np.uint8]
    urgent: o.Words


class Gatherer:
    """`context`: of asynchronous reads; 0: there are none here, and reads follow one another."""

    def __init__(self, surroundings: Surroundings, context: int) -> None:
        self._around = surroundings
        self._secret = np.frombuffer(SECRET, np.uint8)
        self._scratch = o.aligned_words(o.scratch_bytes(GATHER_DEPTH))
        self._order = np.zeros(o.WORDS, np.int64)
        self._never = np.zeros(1, np.int64)
        self._context = context
        calls, order = surroundings.calls, self._order
        order[[o.PREAD, o.SYSCALL, o.ERRNO, o.ADVISE]] = calls.pread, calls.syscall, calls.errno, calls.advise
        order[[o.SUBMIT_NUMBER, o.EVENTS_NUMBER]] = calls.submit_number, calls.events_number
        order[[o.DEPTH, o.LOW_DEPTH]] = GATHER_DEPTH, YIELDING_DEPTH
        order[[o.SCRATCH, o.SECRET]] = self._scratch.ctypes.data, self._secret.ctypes.data

    def run(self, part: GatherPart, cancelled: o.Words, buffer: memoryview) -> bool:
        """Reads by way of `buffer`, at a page, which holds the longest read. False when it was cancelled on the way,
        as `cancelled` [1] says. Raises DeviceError, CorruptDataError."""
        files = self._around.files
        while True:
            descriptors = files.descriptors(part.request.shards)  # opens them, and so may find that they are buffered
            is_direct = files.load_mode != "buffered"
            status = self._call(part, descriptors, cancelled, buffer, is_direct=is_direct)
            refused = status == o.FAILED_READ and self._order[o.BAD_NUMBER] == errno.EINVAL
            if not (is_direct and refused):
                break
            files.fall_back()
        if status in (o.DONE, o.STOPPED):
            return bool(status == o.DONE)
        error = self._error(part.request, status)
        error.gather_read = None if status == o.LOST else int(self._order[o.BAD_READ])
        raise error

    def _call(
        self, part: GatherPart, descriptors: o.Words, cancelled: o.Words, buffer: memoryview, *, is_direct: bool
    ) -> int:
        request, order, around = part.request, self._order, self._around
        check = request.check
        space = np.frombuffer(buffer, np.uint8)
        ids = request.starts if check is None else check.bundles
        segments = np.array(() if check is None else check.segments, np.int64)
        lists = [descriptors, request.offsets, request.edges, request.starts, request.slots, ids, segments]
        kept = [np.ascontiguousarray(numbers, np.int64) for numbers in lists]  # until the call is over
        order[o.FIRST], order[o.LAST] = part.first, part.last
        order[o.FILES : o.IDS + 1] = [numbers.ctypes.data for numbers in kept[:6]]
        order[o.BUNDLE_BYTES] = request.bundle_bytes
        order[o.POOL] = around.arena.ctypes.data + request.pool_offset
        order[o.ALIGNMENT] = request.alignment
        order[o.IS_SEALED] = check is not None and check.by_digest
        order[o.SEED] = 0 if check is None else check.table_id << 32
        order[o.SEGMENTS], order[o.SEGMENT_COUNT] = kept[6].ctypes.data, len(segments)
        order[o.CAPACITY] = 0 if check is None else check.capacity
        order[o.BUFFER], order[o.BUFFER_BYTES] = space.ctypes.data, len(space)
        order[o.CANCELLED] = cancelled.ctypes.data
        order[o.YIELDS] = (self._never if part.is_urgent else around.urgent).ctypes.data
        order[o.CONTEXT] = self._context if is_direct else 0
        order[o.DROPS_CACHE] = not is_direct and around.calls.advise != 0
        return around.code(order.ctypes.data)

    def _error(self, request: GatherRequest, status: int) -> StorageError:
        read, bundle, number = (int(self._order[i]) for i in (o.BAD_READ, o.BAD_BUNDLE, o.BAD_NUMBER))
        if status == o.LOST:
            return DeviceError("the system lost track of asynchronous reads; restart, and report it if it comes again")
        offset = int(request.offsets[read])
        path = self._around.files.path(int(request.shards[read]))
        if status == o.FAILED_READ:
            return read_error(f"{path} at offset {offset}", number)
        if status == o.SHORT_READ:
            needed = int(request.starts[request.edges[read + 1] - 1]) + request.bundle_bytes
            return self._around.files.short_read(int(request.shards[read]), offset, needed=needed, reached=number)
        assert request.check is not None
        where = f"{path} at offset {offset + int(request.starts[bundle])}"
        table_id, bundle_id = request.check.table_id, int(request.check.bundles[bundle])
        if status == o.WRONG_DIGEST:
            got, want = (int(self._order[i]) & DIGEST_MASK for i in (o.BAD_DIGEST, o.EXPECTED_DIGEST))
            return wrong_digest(where, table_id, bundle_id, got=got, want=want)
        return CorruptDataError(
            f"{where}: bundle {bundle_id} of table {table_id} has exceptions out of order or out of "
            "range, though its digest is right: whoever wrote the model wrote it so; convert the model again"
        )
