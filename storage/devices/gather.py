"""Bundles that lie apart on flash and are wanted in slots that lie apart in the arena: many at a time, in few reads."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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


class GatherPlacer:
    """Checks reads of a request and copies their bundles to their slots. What is the same for all reads is worked out
    once: a read of a few KiB takes less time than some calls of numpy."""

    def __init__(self, request: GatherRequest, arena: npt.NDArray[np.uint8]) -> None:
        size = request.bundle_bytes
        pool_bytes = (len(arena) - request.pool_offset) // size * size
        pool: Words = arena[request.pool_offset : request.pool_offset + pool_bytes].view(np.uint64)
        self._pool = pool.reshape(-1, size // WORD_BYTES)
        self._request = request
        self._size = size
        self._edges: list[int] = request.edges.tolist()
        self._starts: list[int] = request.starts.tolist()
        self._slots: list[int] = request.slots.tolist()

    def needed_bytes(self, read: int) -> int:
        """Of a read: from its offset to the end of its last bundle."""
        return self._starts[self._edges[read + 1] - 1] + self._size

    def place(self, read: int, target: memoryview) -> None:
        """The read lies in `target`."""
        first, last = self._edges[read], self._edges[read + 1]
        if self._request.check is not None:
            self._request.check(target, self._request.starts[first:last], first)
        words: Words = np.frombuffer(target, np.uint64)
        while first < last:
            stop = self._end_of_run(first, last)
            start, count = self._starts[first] // WORD_BYTES, (stop - first) * self._size // WORD_BYTES
            if stop == first + 1:
                self._pool[self._slots[first]] = words[start : start + count]
            else:
                run = words[start : start + count].reshape(stop - first, -1)
                self._pool[self._request.slots[first:stop]] = run
            first = stop

    def _end_of_run(self, first: int, last: int) -> int:
        """Behind the last of the neighbours from bundle `first` on."""
        starts, size = self._starts, self._size
        if starts[last - 1] - starts[first] == (last - 1 - first) * size:
            return last
        stop = first + 1
        while stop < last and starts[stop] == starts[stop - 1] + size:
            stop += 1
        return stop
