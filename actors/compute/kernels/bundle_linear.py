"""Matrix times activations over bundles of input channels that lie anywhere in the arena, threaded.

Channel k of a table is the weights that activation x[k] is multiplied with, so a sum over channels may leave out those
whose activation is too small. A bundle's *segments* are the columns k of several matrices with the same input; next to
each other, their outputs are one output row.

Sums: channel k belongs to part k % parts, `parts` being the first dimension of the sums, a power of two; a part adds
its channels in the order of the list, fused; `close_parts` then adds the parts in their order. So bits depend on which
channels are active, and neither on where their bundles lie, nor on calls that the list is split over, threads and
batch. (Weights are finite: a masked channel that another position of the batch needs is added times zero.)
"""

import numba
import numpy as np
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.bundle_rows import add_span, fetch_bytes, is_coded, join_span
from tidemill.actors.compute.kernels.linear_parts import CHANNEL_COLUMNS, JOINED_CHANNELS
from tidemill.actors.compute.kernels.planes import BLOCK, U32
from tidemill.actors.compute.kernels.products import F32, I64, Stored, add_rows
from tidemill.actors.compute.kernels.tiles import holds_pairs

ZERO = np.float32(0.0)
# Fetched that much before they are read, as less is shorter than memory takes to answer. Without, sums over scattered
# bundles of 2304 weights take twice as long.
AHEAD_WEIGHTS = 8192
TAIL_BYTES = 128  # of a coded bundle, behind its planes: base, starts and the first exceptions


@numba.njit(nogil=True, cache=True, inline="always")
def next_of_part(ids: I64, i: int, last: int, part: int, parts: int) -> int:
    """The first entry of the list from i on that belongs to the part; `last` if none does."""
    while i < last and ids[i] & (parts - 1) != part:
        i += 1
    return i


@numba.njit(nogil=True, cache=True, inline="always")
def weights_of_word(joined: Stored) -> int:
    """How many weights each element of scratch for joined bundles holds."""
    return 2 if holds_pairs(joined) else 1


@numba.njit(nogil=True, cache=True, inline="always")
def bundles_ahead(weights_of_each: int) -> int:
    """How many bundles of the list lie between the one that is read and the one that is fetched."""
    return -(-AHEAD_WEIGHTS // weights_of_each)


@numba.njit(nogil=True, cache=True)
def open_segment(
    words: U32, place: int, total: int, segments: int, segment: int, start: int
) -> tuple[np.int64, np.int64, np.int64]:
    """(exponent base, first exception from weight `start` of the segment on, the one behind its last) of a coded
    bundle; exceptions as places in `words`."""
    tail = (place + total + total // 2) // 4
    entries = tail + segments + 2
    first = entries + np.int64(words[tail + 1 + segment])
    last = entries + np.int64(words[tail + 2 + segment])
    if start:
        behind = last
        while first < behind:
            middle = (first + behind) // 2
            if np.int64(words[middle]) >> 16 < start:
                first = middle + 1
            else:
                behind = middle
    return np.int64(words[tail]), first, last


@numba.njit(nogil=True, cache=True)
def _add_channel(
    weights: Stored, words: U32, place: int, ahead: int, sizes: I64, total: int, factors: F32, i: int, i_ahead: int,
    column: int, stop: int, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    """One channel for one position: columns column .. stop of its bundle, segment by segment."""
    segment_at = 0
    for segment in range(sizes.shape[0]):
        size = sizes[segment]
        begin, end = max(column - segment_at, 0), min(stop - segment_at, size)
        if begin < end:
            factor = factors[segment, 0, i]
            # What is masked in the next bundle is not worth fetching; what is not, but is here, has nobody to do it.
            is_next = i_ahead >= 0 and factors[segment, 0, i_ahead] != ZERO
            if factor != ZERO:
                base, first, behind = np.int64(0), np.int64(0), np.int64(0)
                if is_coded(weights):
                    base, first, behind = open_segment(words, place, total, sizes.shape[0], segment, begin)
                add_span(
                    weights, words, place, ahead if is_next else place, total, segment_at, base, first, behind,
                    begin, end, factor, sums, sums_at + segment_at,
                )  # fmt: skip
            elif is_next and is_coded(weights):
                fetch_bytes(words, ahead + segment_at + begin, end - begin)
                fetch_bytes(words, ahead + total + (segment_at + begin) // 2, (end - begin) // 2)
        segment_at += size


@numba.njit(nogil=True, cache=True)
def _add_channels_of_one(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, sizes: I64, factors: F32,
    part: int, parts: int, column: int, stop: int, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    """A part's channels for one position, each as its bundle is read."""
    total = np.int64(sizes.sum())
    i = ahead = next_of_part(ids, first, last, part, parts)
    for _ in range(bundles_ahead(stop - column)):
        ahead = next_of_part(ids, ahead + 1, last, part, parts)
    while i < last:
        has_ahead = ahead < last
        place_ahead = places[ahead] if has_ahead else places[i]
        if is_coded(weights):
            fetch_bytes(words, place_ahead + total + total // 2, TAIL_BYTES)
        _add_channel(
            weights, words, places[i], place_ahead, sizes, total, factors, i, ahead if has_ahead else -1,
            column, stop, sums, sums_at,
        )  # fmt: skip
        i = next_of_part(ids, i + 1, last, part, parts)
        ahead = next_of_part(ids, ahead + 1, last, part, parts)


@numba.njit(nogil=True, cache=True)
def _join_channel(
    weights: Stored, words: U32, place: int, ahead: int, sizes: I64, column: int, stop: int, out: Stored, out_at: int
) -> None:
    """Columns column .. stop of a bundle, of all segments → out[out_at ...]."""
    segment_at, total = 0, np.int64(sizes.sum())
    for segment in range(sizes.shape[0]):
        begin, end = max(column - segment_at, 0), min(stop - segment_at, sizes[segment])
        if begin < end:
            base, first, behind = np.int64(0), np.int64(0), np.int64(0)
            if is_coded(weights):
                base, first, behind = open_segment(words, place, total, sizes.shape[0], segment, begin)
            join_span(
                weights, words, place, ahead, total, segment_at, base, first, behind, begin, end,
                out, out_at + segment_at + begin - column,
            )  # fmt: skip
        segment_at += sizes[segment]


@numba.njit(nogil=True, cache=True)
def _add_joined(
    joined: Stored, n: int, sizes: I64, batch: int, gathered: F32, column: int, stop: int,
    sums: F32, sums_at: int, stride: int,
) -> None:  # fmt: skip
    """The n channels that were joined, for all positions."""
    segment_at = 0
    for segment in range(sizes.shape[0]):
        begin, end = max(column, segment_at), min(stop, segment_at + sizes[segment])
        if begin < end:
            add_rows(
                joined, begin - column, stop - column, n, end - begin,
                gathered, segment * batch * JOINED_CHANNELS, JOINED_CHANNELS, batch, sums, sums_at + begin, stride,
            )  # fmt: skip
        segment_at += sizes[segment]


@numba.njit(nogil=True, cache=True)
def _add_channels_of_batch(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, sizes: I64, factors: F32, batch: int,
    part: int, parts: int, column: int, stop: int, joined: Stored, gathered: F32, sums: F32, sums_at: int, stride: int,
) -> None:  # fmt: skip
    """A part's channels for several positions: joined some at a time, once for all of them."""
    width = stop - column
    at_once = min(JOINED_CHANNELS, joined.shape[0] * weights_of_word(joined) // width)
    n = 0
    i = next_of_part(ids, first, last, part, parts)
    while i < last:
        following = next_of_part(ids, i + 1, last, part, parts)
        ahead = places[i] if following == last else places[following]
        _join_channel(weights, words, places[i], ahead, sizes, column, stop, joined, n * width)
        for row in range(sizes.shape[0] * batch):
            gathered[row * JOINED_CHANNELS + n] = factors[row // batch, row % batch, i]
        n += 1
        if n == at_once or following == last:
            _add_joined(joined, n, sizes, batch, gathered, column, stop, sums, sums_at, stride)
            n = 0
        i = following


@numba.njit(parallel=True, nogil=True, cache=True)
def add_channels(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, sizes: I64, factors: F32, batch: int,
    joined: Stored, gathered: F32, sums: F32, begin: int, end: int, slices: int,
) -> None:  # fmt: skip
    """sums[ids[i] % parts, b, column - begin] += factors[s, b, i] · segment s of bundle i, for first <= i < last and
    the columns begin .. end of an output row, multiples of BLOCK but for the last of all.

    `weights` is the arena as u8 for `bf16-bundles`, else as the raw elements (kernels/elements.py), `words` the same as
    u32. places[i] is the byte of the arena where the bundle of channel ids[i], ascending, lies; `sizes` [S] are the
    weights of its segments. factors [S, batch or more, entries or more]; at batch 1 a factor of zero costs nothing.
    joined: [threads, ≥ CHANNEL_COLUMNS + BLOCK weights, or a whole bundle]; gathered: [threads, ≥ S · batch ·
    JOINED_CHANNELS]; sums: [parts, batch or more, end - begin or more], added to. `slices` that output columns are cut
    into at least: for threads, no part of the bits. Raises ValueError for scratch that is too small.
    """
    parts, chunk, stride = sums.shape
    cuts = max(slices, -(-(end - begin) // CHANNEL_COLUMNS))
    blocks = -(-(end - begin) // BLOCK)
    if parts & (parts - 1):
        raise ValueError("the parts of sums over channels are a power of two")
    if batch > 1 and joined.shape[1] * weights_of_word(joined) < min(end - begin, CHANNEL_COLUMNS + BLOCK):
        raise ValueError("scratch for joined channels holds less than one")
    flat_sums = sums.reshape(-1)
    for unit in numba.prange(parts * cuts):
        part, cut = unit % parts, unit // parts
        column, stop = begin + blocks * cut // cuts * BLOCK, min(begin + blocks * (cut + 1) // cuts * BLOCK, end)
        if column >= stop:
            continue
        sums_at = part * chunk * stride - begin
        if batch == 1:
            _add_channels_of_one(
                weights, words, places, ids, first, last, sizes, factors, part, parts, column, stop, flat_sums, sums_at
            )  # fmt: skip
        else:
            thread = get_thread_id()
            _add_channels_of_batch(
                weights, words, places, ids, first, last, sizes, factors, batch, part, parts, column, stop,
                joined[thread], gathered[thread], flat_sums, sums_at, stride,
            )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def close_parts(sums: F32, out: F32) -> None:
    """out[b, k] = Σ_p sums[p, b, k], p in order, for out [B, width]; those sums are zero after."""
    for b in range(out.shape[0]):
        row = out[b]
        row[:] = ZERO
        for part in range(sums.shape[0]):
            partial = sums[part, b]
            for k in range(row.shape[0]):
                row[k] += partial[k]
                partial[k] = ZERO
