"""Bundles that lie apart on flash and are wanted in slots that lie apart in the arena: many at a time, in few reads."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


class BundleCheck(NamedTuple):
    """By what gathered bundles are believed: the digest each ends in, seeded with where it belongs (unless not
    `by_digest`), and, where `segments` has the weights of each, that kernels can follow base and exceptions
    (codecs/bf16_bundles.py): always, as kernels don't look."""

    table_id: int
    bundles: I64  # [bundles] ids in the table
    segments: tuple[int, ...] = ()
    capacity: int = 0  # of exceptions
    by_digest: bool = True


class GatherRequest(NamedTuple):
    """`reads` reads of one table that bring `bundles` bundles of `bundle_bytes`, a multiple of 64, each into a slot.

    Offsets are multiples of `alignment`; what a read brings between its bundles is thrown away. Slots are numbers in a
    pool of slots of `bundle_bytes` that starts at byte `pool_offset` of the arena region. Bundles are checked before
    they are placed.
    """

    ticket: int
    shards: I64  # [reads]
    offsets: I64  # [reads], in the shard
    edges: I64  # [reads + 1]: read r brings bundles edges[r] .. edges[r + 1]
    starts: I64  # [bundles]: its first byte, behind its read's offset; rising within a read
    slots: I64  # [bundles]
    bundle_bytes: int
    pool_offset: int
    alignment: int
    check: BundleCheck | None = None

    @property
    def read_bytes_max(self) -> int:
        """Of the longest read, whole blocks of `alignment`."""
        needed = self.starts[self.edges[1:] - 1] + self.bundle_bytes
        return -int((-needed // self.alignment).min(initial=0)) * self.alignment


class GatherPart(NamedTuple):
    """Reads [first, last) of a request: what one thread does in one go."""

    request: GatherRequest
    first: int
    last: int
    is_urgent: bool

    @property
    def ticket(self) -> int:
        return self.request.ticket


def split_gather(request: GatherRequest, parts: int, *, urgent: bool) -> list[GatherPart]:
    """At most `parts` runs of reads that bring about as many bundles each; at least one read in each."""
    reads, bundles = len(request.offsets), int(request.edges[-1])
    wanted = np.array([bundles * part / parts for part in range(1, parts)])
    cuts = np.searchsorted((request.edges[:-1] + request.edges[1:]) / 2, wanted)  # the nearest edges
    edges = [0, *sorted({int(cut) for cut in cuts if 0 < cut < reads}), reads]
    return [GatherPart(request, first, last, urgent) for first, last in pairwise(edges)]
