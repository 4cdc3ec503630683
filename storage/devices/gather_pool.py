"""The gathers of a flash device: which are open and how their parts ended, and what threads do them with."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.storage.devices.device import ReadOutcome
from tidemill.storage.devices.gather import GatherPart, GatherRequest, split_gather
from tidemill.storage.devices.gatherer import GATHER_DEPTH, Gatherer, Surroundings
from tidemill.storage.devices.native.order import GatherFunction, Words
from tidemill.storage.devices.native.system import AsyncContexts, find_calls
from tidemill.storage.devices.prefault import Prefaulter
from tidemill.storage.devices.shard_files import ShardFiles

POPULATE_BYTES = 1 << 20  # of slots, at a time
BUFFER_BYTES = 2 << 20  # of a thread; its reads under way share it
# One thread has as many reads of a gather under way as the drive likes. A second one begins the next while the first
# waits for its last; the rest are left to reads that are urgent.
BACKGROUND_GATHERS = 2


class GatherPool:
    """Its owner calls `open`, `cancel` and `add` one at a time; `run` is called by any number of threads at once."""

    def __init__(self, code: GatherFunction, files: ShardFiles, arena: npt.NDArray[np.uint8], threads: int) -> None:
        self.urgent: Words = np.zeros(1, np.int64)  # requests of the device that are; its owner counts them
        self._around = Surroundings(code, find_calls(), files, arena, self.urgent)
        self._contexts = AsyncContexts(threads, GATHER_DEPTH)
        contexts = self._contexts.contexts or [0] * threads
        self._gatherers = [Gatherer(self._around, context) for context in contexts]
        self._gathers: dict[int, _Gather] = {}  # those with parts to come, by ticket
        self._prefaulter = Prefaulter(arena.ctypes.data)
        self._arena_bytes = len(arena)

    @property
    def background_gathers(self) -> int:
        """Most parts that are not urgent to be done at once."""
        threads = len(self._gatherers)
        return max(1, min(BACKGROUND_GATHERS, threads - 1)) if self._is_asynchronous else threads

    def open(self, request: GatherRequest, *, urgent: bool) -> Sequence[GatherPart]:
        """Its parts. Raises ValueError for one that reaches beyond the arena or its own lists."""
        _check(request, self._arena_bytes)
        parts = split_gather(request, 1 if self._is_asynchronous else len(self._gatherers), urgent=urgent)
        self._gathers[request.ticket] = _Gather(len(parts))
        return parts

    def cancel(self, ticket: int) -> bool:
        """Whether it is open."""
        if ticket not in self._gathers:
            return False
        self._gathers[ticket].cancelled[0] = 1
        return True

    def run(self, part: GatherPart, thread: int, buffer: memoryview) -> bool:
        """See Gatherer.run; `thread` is the calling one's number."""
        request = part.request
        self._populate(request, int(request.edges[part.first]), int(request.edges[part.last]))
        return self._gatherers[thread].run(part, self._gathers[part.ticket].cancelled, buffer)

    def add(self, outcome: ReadOutcome) -> ReadOutcome | None:
        """A part ended: the outcome of the whole if it was the last."""
        gather = self._gathers.get(outcome.ticket)
        if gather is None:
            return outcome
        outcome = gather.add(outcome)
        if gather.parts_left:
            return None
        del self._gathers[outcome.ticket]
        return outcome

    def close(self) -> None:
        self._contexts.close()

    @property
    def _is_asynchronous(self) -> bool:
        return bool(self._contexts.contexts) and self._around.files.load_mode != "buffered"

    def _populate(self, request: GatherRequest, first: int, last: int) -> None:
        """Give the slots of these bundles their pages, with those around them: slots of a pool fill up one by one."""
        starts = request.pool_offset + request.slots[first:last] * request.bundle_bytes
        for block in np.unique([starts // POPULATE_BYTES, (starts + request.bundle_bytes - 1) // POPULATE_BYTES]):
            at = int(block) * POPULATE_BYTES
            self._prefaulter.populate(at, min(POPULATE_BYTES, self._arena_bytes - at))


class _Gather:
    """The parts of a gather that are still to come, and how those before ended."""

    def __init__(self, parts: int) -> None:
        self.parts_left = parts
        self.cancelled: Words = np.zeros(1, np.int64)  # not 0: it is
        self._failed: ReadOutcome | None = None  # the first that did
        self._cancelled = False
        self._begun_ns = 0

    def add(self, outcome: ReadOutcome) -> ReadOutcome:
        """The outcome of all parts so far: an error if any failed, else cancelled if any was; under way from the first
        part's beginning to this one's end."""
        self.parts_left -= 1
        if self._failed is None and outcome.error is not None:
            self._failed = outcome
        self._cancelled = self._cancelled or outcome.cancelled
        self._begun_ns = min(self._begun_ns or outcome.begun_ns, outcome.begun_ns)
        whole = self._failed or ReadOutcome(outcome.ticket, None, self._cancelled)
        return whole._replace(begun_ns=self._begun_ns, ended_ns=outcome.ended_ns)


def _check(request: GatherRequest, arena_bytes: int) -> None:
    """Compiled code follows the lists without looking."""
    reads, bundles = len(request.offsets), len(request.slots)
    lengths = [len(request.shards) == reads, len(request.edges) == reads + 1, len(request.starts) == bundles]
    if request.check is not None:
        lengths.append(len(request.check.bundles) == bundles)
    edges = request.edges
    if not (all(lengths) and reads and edges[0] == 0 and edges[-1] == bundles and (edges[1:] > edges[:-1]).all()):
        raise ValueError(f"gather {request.ticket}: lists of {reads} reads and {bundles} bundles contradict themselves")
    ends = request.pool_offset + (int(request.slots.max()) + 1) * request.bundle_bytes
    if min(int(request.slots.min()), int(request.starts.min()), request.pool_offset) < 0 or ends > arena_bytes:
        raise ValueError(f"gather {request.ticket}: slots up to byte {ends} of an arena of {arena_bytes}")
