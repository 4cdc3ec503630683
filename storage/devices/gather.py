"""Bundles that lie apart on flash and are wanted in slots that lie apart in the arena: many at a time, in few reads."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up

I64 = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
WORD_BYTES = 8


class GatherRequest(NamedTuple):
    """`reads` reads of one table that bring `bundles` bundles of `bundle_bytes`, a multiple of 64, each into a slot.

    Offsets are multiples of 4096; what a read brings between its bundles is thrown away. Slots are numbers in a pool
    of slots of `bundle_bytes` that starts at byte `pool_offset` of the arena region. `check` looks at a read's bytes
    before they are placed: it is given where its bundles start, and the number of the first of them in the request;
    what it raises is the request's error. `check_placed` looks at a run of bundles in their slots, all at once.
    """

    ticket: int
    shards: I64  # [reads]
    offsets: I64  # [reads], in the shard
    edges: I64  # [reads + 1]: read r brings bundles edges[r] .. edges[r + 1]
    starts: I64  # [bundles]: its first byte, behind its read's offset; rising within a read
    slots: I64  # [bundles]
    bundle_bytes: int
    pool_offset: int
    check: Callable[[memoryview, I64, int], None] | None = None
    check_placed: Callable[[npt.NDArray[np.uint8], int, int], None] | None = None  # arena, bundles [first, last)

    def needed_bytes(self, read: int) -> int:
        """Of a read: from its offset to the end of its last bundle."""
        return int(self.starts[self.edges[read + 1] - 1]) + self.bundle_bytes


class GatherPart(NamedTuple):
    """Reads [first, last) of a request: what one thread does in one go."""

    request: GatherRequest
    first: int
    last: int

    @property
    def ticket(self) -> int:
        return self.request.ticket


def split_gather(request: GatherRequest, parts: int) -> list[GatherPart]:
    """At most `parts` runs of reads that bring about as many bundles each; at least one read in each."""
    reads, bundles = len(request.offsets), int(request.edges[-1])
    wanted = np.array([bundles * part / parts for part in range(1, parts)])
    cuts = np.searchsorted((request.edges[:-1] + request.edges[1:]) / 2, wanted)  # the nearest edges
    edges = [0, *sorted({int(cut) for cut in cuts if 0 < cut < reads}), reads]
    return [GatherPart(request, first, last) for first, last in pairwise(edges)]


def place_read(request: GatherRequest, read: int, target: memoryview, arena: npt.NDArray[np.uint8]) -> None:
    """Check the bundles of a read that lies in `target` and copy each to its slot, runs of neighbours at a time."""
    first, last = int(request.edges[read]), int(request.edges[read + 1])
    starts, slots, size = request.starts[first:last], request.slots[first:last], request.bundle_bytes
    if request.check is not None:
        request.check(target, starts, first)
    pool_bytes = (len(arena) - request.pool_offset) // size * size
    pool: Words = arena[request.pool_offset : request.pool_offset + pool_bytes].view(np.uint64)
    pool = pool.reshape(-1, size // WORD_BYTES)
    read_words: Words = np.frombuffer(target[: request.needed_bytes(read)], np.uint64)
    breaks = np.flatnonzero(np.diff(starts) != size) + 1
    for run in np.split(np.arange(last - first), breaks):
        word = int(starts[run[0]]) // WORD_BYTES
        words = read_words[word : word + len(run) * size // WORD_BYTES]
        pool[slots[run[0] : run[-1] + 1]] = words.reshape(len(run), -1)


def read_length(request: GatherRequest, read: int) -> int:
    """Bytes that a direct read of it asks for."""
    return align_up(request.needed_bytes(read))
