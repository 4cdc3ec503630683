"""Self-contained bundles of bf16 weights in 12 bits, each with its own exponent base, exceptions and digest.

A bundle of rows ("segments") of E_0 .. E_{S-1} weights, n in all, each E a multiple of 64 and at most 65,536:

    n bytes             codes of all segments (`bf16_codes`)
    n / 2 bytes         their lower mantissas
    u32 base            even, 0..240
    u32 starts[S + 1]   exceptions of segment s are entries starts[s] .. starts[s + 1]; from 0, not falling
    u32 entries[…]      place in the segment << 16 | bf16, places rising within a segment; unused ones 0
    zeros, then u64 digest, so that the whole is a multiple of 64 bytes

All bundles of a table have one size, in which the entries have what the rest leaves: its *capacity*.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.bf16_codes import (
    BLOCK,
    EXCEPTION_BYTES,
    EXPONENT_BASE_MAX,
    EXPONENT_BASE_STEP,
    ROW_ELEMENTS_MAX,
    exponents_of,
    find_exponent_bases,
    join_weights,
    split_weights,
)
from tidemill.storage.codecs.bundle_digest import DIGEST_BYTES
from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.codecs.raw_bundles import BUNDLE_ALIGNMENT_BYTES, RawBundlesCodec, sealed_bytes
from tidemill.storage.errors import CorruptDataError, FormatError
from tidemill.storage.manifest import Element, Table


def bf16_bundle_bytes(segments: Sequence[int], exceptions: int) -> int:
    """Bytes of a bundle with room for so many exceptions."""
    return sealed_bytes(_entries_offset(segments) + EXCEPTION_BYTES * exceptions)


def capacity_of(table: Table) -> int:
    """How many exceptions a bundle has room for."""
    room = table.planes[0].bundle_bytes - DIGEST_BYTES - _entries_offset(table.segments)
    return room // EXCEPTION_BYTES


def find_bad_bundle(memory: Bytes, offsets: npt.NDArray[np.int64], table: Table) -> int | None:
    """See `find_bad_lists`."""
    return find_bad_lists(memory, offsets, table.segments, capacity_of(table))


def find_bad_lists(memory: Bytes, offsets: npt.NDArray[np.int64], segments: Sequence[int], capacity: int) -> int | None:
    """The first of the bundles at `offsets` (multiples of 4) of `memory` whose base or lists kernels could not follow.

    All at once, however they lie: 20 µs, and 0.1 to 0.2 µs a bundle.
    """
    words = memory[: len(memory) // 4 * 4].view("<u4")
    tail = sum(segments) * 3 // 2
    heads = (offsets[:, None] + tail) // 4 + np.arange(len(segments) + 2)
    bases, starts = words[heads[:, 0]], words[heads[:, 1:]]
    bad = (bases > EXPONENT_BASE_MAX) | (bases % EXPONENT_BASE_STEP != 0) | (starts[:, 0] != 0)
    bad |= (starts[:, 1:] < starts[:, :-1]).any(axis=1) | (starts[:, -1] > capacity)
    counts = np.where(bad, 0, starts[:, -1]).astype(np.int64)
    most = int(counts.max(initial=0))
    if most:
        place = np.arange(most)
        entries = words[heads[:, -1:] + 1 + place]
        used = place < counts[:, None]
        segment = (place[None, :, None] >= starts[:, None, 1:-1]).sum(axis=2)
        places = entries >> np.uint32(16)
        bad |= (used & (places >= np.array(segments, np.uint32)[segment])).any(axis=1)
        falls = (places[:, 1:] <= places[:, :-1]) & (segment[:, 1:] == segment[:, :-1])
        bad |= (used[:, 1:] & falls).any(axis=1)
    found = np.flatnonzero(bad)
    return int(found[0]) if len(found) else None


class Bf16BundlesCodec(RawBundlesCodec):
    name = "bf16-bundles"

    def supports(self, element: Element, row_elements: int) -> bool:
        return element == "bf16" and row_elements % BLOCK == 0 and row_elements <= ROW_ELEMENTS_MAX

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        """Of one segment and no exceptions; what a table has is for `bf16_bundle_bytes` to say."""
        return (bf16_bundle_bytes([bundle_bytes // 2], 0),)

    def planes_rule(self, table: Table) -> str | None:
        least = bf16_bundle_bytes(table.segments, 0)
        most = bf16_bundle_bytes(table.segments, table.bundle_elements)
        sizes = [plane.bundle_bytes for plane in table.planes]
        fits = len(sizes) == 1 and least <= sizes[0] <= most and sizes[0] % BUNDLE_ALIGNMENT_BYTES == 0
        return None if fits else f"one of a multiple of {BUNDLE_ALIGNMENT_BYTES} in {least}..{most}"

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        """Raises FormatError for a bundle with more exceptions than the table has room for."""
        weights = bundles.view(np.uint16).reshape(len(bundles), -1)
        n = table.bundle_elements
        bases = find_exponent_bases(_count_exponents(exponents_of(weights)))
        codes, nibbles, outside = split_weights(weights, bases.astype(np.uint8)[:, None])
        stored = np.zeros((len(bundles), table.planes[0].bundle_bytes), np.uint8)
        stored[:, :n] = codes.reshape(len(bundles), -1)
        stored[:, n : n + n // 2] = nibbles.reshape(len(bundles), -1)
        tail = stored[:, n + n // 2 :].view("<u4")
        edges = np.cumsum((0, *table.segments))
        tail[:, 0] = bases
        starts = np.zeros((len(bundles), n + 1), np.int64)
        np.cumsum(outside, axis=1, out=starts[:, 1:])
        tail[:, 1 : 1 + len(edges)] = starts[:, edges]
        most = int(starts[:, -1].max(initial=0))
        if most > capacity_of(table):
            raise FormatError(
                f"{table.role}: a bundle has {most} exceptions, the table has room for {capacity_of(table)}"
            )
        rows, places = np.nonzero(outside)
        entry = starts[rows, places]
        segment = np.searchsorted(edges, places, side="right") - 1
        inside = (places - edges[segment]).astype(np.uint32)
        tail[rows, 1 + len(edges) + entry] = (inside << np.uint32(16)) | weights[rows, places]
        return (EncodedPlane(stored.reshape(-1), stored.nbytes, exceptions=len(rows)),)

    def check(self, plane: int, placed: memoryview, table: Table, bundles: int) -> None:
        memory = np.frombuffer(placed, np.uint8)
        bad = find_bad_bundle(memory, np.arange(bundles) * table.planes[0].bundle_bytes, table)
        if bad is not None:
            raise CorruptDataError(
                f"{self.name}: base or exceptions of bundle {bad} of {bundles} contradict themselves"
            )

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        stored = planes[0].reshape(-1, table.planes[0].bundle_bytes)
        n = table.bundle_elements
        tail = np.ascontiguousarray(stored[:, n + n // 2 :]).view("<u4")
        codes, nibbles = stored[:, :n].reshape(-1), stored[:, n : n + n // 2].reshape(-1)
        weights = join_weights(codes, nibbles, tail[:, :1].astype(np.uint16))
        edges = np.cumsum((0, *table.segments))
        starts = tail[:, 1 : 1 + len(edges)].astype(np.int64)
        counts = starts[:, -1]
        rows = np.repeat(np.arange(len(stored)), counts)
        entry = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = tail[rows, 1 + len(edges) + entry]
        segment = (entry[:, None] >= starts[rows, 1:-1]).sum(axis=1)
        places = edges[segment] + (entries >> np.uint32(16)).astype(np.int64)
        weights[rows, places] = (entries & np.uint32(0xFFFF)).astype(np.uint16)
        return weights.view(np.uint8)

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        size = table.planes[0].bundle_bytes
        return self.join([planes[0][place * size : (place + 1) * size]], table, exponent_base).reshape(-1)


def _entries_offset(segments: Sequence[int]) -> int:
    return sum(segments) * 3 // 2 + 4 * (len(segments) + 2)


def _count_exponents(exponents: Bytes) -> npt.NDArray[np.int64]:
    """[N, E] → how often each exponent occurs in each of N, [N, 256]."""
    places = exponents + (np.arange(len(exponents)) * 256)[:, None]
    return np.bincount(places.reshape(-1), minlength=256 * len(exponents)).reshape(-1, 256)
