"""Matrix times activations over runs of extents whose weights lie as planes, threaded. As kernels/linear.py: one
position is computed as planes of bf16 are read; for more, rows are joined into scratch once for all of them."""

import numba
import numpy as np
import numpy.typing as npt
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.linear import activate
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, JOINED_ROWS, MLP_PARTS
from tidemill.actors.compute.kernels.planes import U8, U32, add_row, dot_row, join_f16, join_row
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
def _dot_one(
    arena: U8, words: U32, codes_at: int, rest_at: int, row: int, total: int, size: int, base: int, x: F32
) -> np.float32:
    first, last = _exceptions(words, (rest_at + total * size // 2) // 4, total, row)
    codes_at, rest_at = codes_at + row * size, rest_at + row * size // 2
    return dot_row(arena, words, codes_at, rest_at, base, first, last, x, 0, size)  # type: ignore[no-any-return]


@numba.njit(nogil=True, cache=True)
def dot_run_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, scratch: Joined, out: F32, start: int, stop: int,
) -> None:  # fmt: skip
    """What `row_dot_planes` does, for rows [start, stop) alone: one thread's part, `scratch` its own."""
    size, batch, width = x.shape[1], x.shape[0], out.shape[1]
    flat_x = x.reshape(-1)
    for e in range(first, last, 2):
        codes_at, rest_at, count = offsets[e], offsets[e + 1], stops[e] - starts[e]
        begin, end = max(start, starts[e]), min(stop, stops[e])
        if batch == 1 and holds_pairs(scratch):
            for row in range(begin, end):
                out[0, row] = _dot_one(
                    arena, words, codes_at, rest_at, row - starts[e], count, size, bases[e], flat_x
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
def _neuron(
    arena: U8, words: U32, codes_at: int, rest_at: int, neuron: int, count: int, size: int, base: int,
    x: F32, pair: F32, gelu: bool, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    """One neuron for one position, in one run over its bytes."""
    total, row = 3 * count, 3 * neuron
    pair[0] = _dot_one(arena, words, codes_at, rest_at, row, total, size, base, x)
    pair[1] = _dot_one(arena, words, codes_at, rest_at, row + 1, total, size, base, x)
    activate(gelu, pair, 0, pair, 2, 1)
    first, last = _exceptions(words, (rest_at + total * size // 2) // 4, total, row + 2)
    down = (row + 2) * size
    add_row(arena, words, codes_at + down, rest_at + down // 2, base, first, last, pair[2], sums, sums_at, size)


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
            if batch == 1 and holds_pairs(joined):
                for i in range(begin, end):
                    _neuron(
                        arena, words, codes_at, rest_at, i, count, size, bases[e],
                        flat_x, scratch[part], gelu, flat_sums, sums_at,
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
