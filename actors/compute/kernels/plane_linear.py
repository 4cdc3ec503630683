"""Matrix times activations over runs of extents whose weights lie as planes, threaded, as kernels/linear.py.

For few positions planes of bf16 are joined in registers, as they are read; for more, and of f16, rows are joined into
scratch once for all of them."""

import numba
import numpy as np
import numpy.typing as npt
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.linear import activate
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, JOINED_ROWS, MLP_PARTS
from tidemill.actors.compute.kernels.plane_rows import join_f16, join_row
from tidemill.actors.compute.kernels.plane_tiles import FEW, TILE_NEURONS, add_tile, dot_tile
from tidemill.actors.compute.kernels.planes import AHEAD_BYTES, U8, U32
from tidemill.actors.compute.kernels.products import F32, I64, add_rows, dot_rows
from tidemill.actors.compute.kernels.tiles import holds_pairs

Joined = npt.NDArray[np.generic]  # rows joined for a batch: pairs of bf16 (u32), or f16 (i16)


@numba.njit(nogil=True, cache=True)
def _exceptions(words: U32, starts: int, total: int, row: int) -> tuple[np.int64, np.int64]:
    """Of a row of an extent: its first exception and the one behind its last, as places in `words`."""
    entries = starts + total + 1
    return entries + np.int64(words[starts + row]), entries + np.int64(words[starts + row + 1])


@numba.njit(nogil=True, cache=True)
def join_rows(
    arena: U8, words: U32, codes_at: int, rest_at: int, row: int, rows: int, total: int, size: int, base: int,
    out: Joined,
) -> None:  # fmt: skip
    """Rows row .. row + rows, of `size` weights each, of a pair of extents of `total` rows → the start of `out`:
    pairs of bf16 (u32) or f16 (i16), and the type says which planes they come from.

    `codes_at` and `rest_at` are the bytes of `arena` where the extents of plane 0 and 1 lie; `words` is the same arena
    as u32.
    """
    if not holds_pairs(out):
        join_f16(arena, codes_at + row * size, rest_at + row * size, out, 0, rows * size)
        return
    starts = (rest_at + total * size // 2) // 4
    for r in range(row, row + rows):
        first, last = _exceptions(words, starts, total, r)
        join_row(
            arena, words, codes_at + r * size, rest_at + r * size // 2, base, first, last, out, (r - row) * size, size
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def dot_run_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, scratch: Joined, out: F32, start: int, stop: int,
) -> None:  # fmt: skip
    """What `row_dot_planes` does, for rows [start, stop) alone: one thread's part, `scratch` its own."""
    size, batch, width = x.shape[1], x.shape[0], out.shape[1]
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    ahead = 2 + AHEAD_BYTES // (2 * size) * 2
    for e in range(first, last, 2):
        codes_at, rest_at, count = offsets[e], offsets[e + 1], stops[e] - starts[e]
        begin, end = max(start, starts[e]), min(stop, stops[e])
        if batch <= FEW and holds_pairs(scratch):
            for row in range(begin, end, 2):
                step = min(1, end - 1 - row)
                dot_tile(
                    arena, words, codes_at, rest_at, bases[e], count, row - starts[e], step, ahead, size,
                    flat_x, batch, flat_out, row, width,
                )  # fmt: skip
            continue
        for row in range(begin, end, JOINED_ROWS):
            rows = min(JOINED_ROWS, end - row)
            join_rows(
                arena, words, codes_at, rest_at, row - starts[e], rows, count, size, bases[e], scratch
            )  # fmt: skip
            dot_rows(scratch, 0, 2 * size, rows, x, 0, size, batch, out, row, width)


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, joined: Joined, out: F32, parts: int,
) -> None:  # fmt: skip
    """out[b, row] = weights[row] · x[b] for the rows of extents first, first + 2, … of plane 0 before `last`, each
    followed by that of plane 1.

    `offsets[e]` is the byte where extent e lies in `arena` (`words`: the same as u32), `bases[e]` its exponent base; it
    holds rows starts[e] .. stops[e] of the table. x is [B, K], out [B, rows], joined [threads, JOINED_ROWS · K
    weights or more].
    """
    origin = starts[first]
    total = stops[last - 1] - origin
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        dot_run_planes(
            arena, words, offsets, bases, starts, stops, first, last, x, joined[get_thread_id()], out, start, stop
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _few_neurons(
    arena: U8, words: U32, codes_at: int, rest_at: int, base: int, count: int, begin: int, end: int,
    x: F32, batch: int, size: int, scratch: F32, pairs_at: int, gelu: bool, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    """sums[sums_at + b · size ...] += neurons begin .. end of a pair of extents of `count`, for x[b · size ...]."""
    total, ahead, hidden_at = 3 * count, 3 + AHEAD_BYTES // (3 * size) * 3, pairs_at + 2 * TILE_NEURONS * batch
    for i in range(begin, end, TILE_NEURONS):
        n = min(TILE_NEURONS, end - i)
        for j in range(n):
            dot_tile(
                arena, words, codes_at, rest_at, base, total, 3 * (i + j), 1, ahead, size,
                x, batch, scratch, pairs_at + 2 * j, 2 * n,
            )  # fmt: skip
        activate(gelu, scratch, pairs_at, scratch, hidden_at, n * batch)
        add_tile(
            arena, words, codes_at, rest_at, base, total, 3 * i + 2, 3, 3 * TILE_NEURONS, size,
            n, scratch, hidden_at, n, batch, sums, sums_at,
        )  # fmt: skip


@numba.njit(parallel=True, nogil=True, cache=True)
def mlp_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, joined: Joined, scratch: F32, sums: F32, gelu: bool,
) -> None:  # fmt: skip
    """sums[p, b] += Σ act(gate_i·x[b]) (up_i·x[b]) down_i, as `linear.mlp`, over pairs of extents as `row_dot_planes`.

    joined is [threads, …]: as many neurons are joined at a time as a row of it holds.
    """
    batch, size = x.shape
    chunk = sums.shape[1]
    stride = 3 * size
    at_once = min(JOINED_NEURONS, joined.shape[1] * joined.itemsize // (2 * stride))  # both elements have 2 bytes
    flat_x, flat_scratch, flat_sums = x.reshape(-1), scratch.reshape(-1), sums.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        rows = joined[get_thread_id()]
        pairs_at = part * scratch.shape[1]
        hidden_at = pairs_at + 2 * JOINED_NEURONS * chunk
        sums_at = part * chunk * size
        for e in range(first, last, 2):
            codes_at, rest_at, count = offsets[e], offsets[e + 1], stops[e] - starts[e]
            begin, end = count * part // MLP_PARTS, count * (part + 1) // MLP_PARTS
            if batch <= FEW and holds_pairs(joined):
                _few_neurons(
                    arena, words, codes_at, rest_at, bases[e], count, begin, end,
                    flat_x, batch, size, flat_scratch, pairs_at, gelu, flat_sums, sums_at,
                )  # fmt: skip
                continue
            for i in range(begin, end, at_once):
                n = min(at_once, end - i)
                join_rows(arena, words, codes_at, rest_at, 3 * i, 3 * n, 3 * count, size, bases[e], rows)
                dot_rows(rows, 0, stride, 2 * n, x, 0, size, batch, flat_scratch, pairs_at, 2 * n)
                activate(gelu, flat_scratch, pairs_at, flat_scratch, hidden_at, n * batch)
                add_rows(
                    rows, 2 * size, stride, n, size, flat_scratch, hidden_at, n, batch, flat_sums, sums_at, size
                )  # fmt: skip
