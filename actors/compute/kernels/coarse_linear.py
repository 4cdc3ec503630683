"""Matrix times one position over plane 0 of extents that lie in planes, threaded: what drafts are made of.

As kernels/plane_linear.py, but of a position's two planes only the first is read (kernels/coarse_rows.py).
"""

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.coarse_rows import (
    MOST_ROWS,
    add_coarse,
    dot_four_coarse,
    dot_row_coarse,
    dot_two_coarse,
    from_lanes,
    to_lanes,
)
from tidemill.actors.compute.kernels.linear import activate
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
from tidemill.actors.compute.kernels.planes import AHEAD_BYTES
from tidemill.actors.compute.kernels.products import F32, I64

Coarse = npt.NDArray[np.uint8] | npt.NDArray[np.int8]  # the arena: u8 for codes of bf16, i8 for upper bytes of f16


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot_coarse(
    arena: Coarse, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, out: F32, parts: int,
) -> None:  # fmt: skip
    """out[0, row] = weights[row] · x[0] for the rows of extents first, first + 2, … of plane 0 before `last`.

    `offsets[e]` is the byte where extent e lies in `arena`, `bases[e]` its exponent base; it holds rows starts[e] ..
    stops[e] of the table. x is [1, K], out [1, rows].
    """
    size = x.shape[1]
    lanes, flat_out = np.empty(size, np.float32), out.reshape(-1)
    to_lanes(arena, x.reshape(-1), 0, lanes, 0, size)
    ahead = max(AHEAD_BYTES, 4 * size)
    origin = starts[first]
    total = stops[last - 1] - origin
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        for e in range(first, last, 2):
            begin, end = max(start, starts[e]), min(stop, stops[e])
            at, whole = offsets[e] - starts[e] * size, begin + max(0, end - begin) // 4 * 4
            for row in range(begin, whole, 4):
                dot_four_coarse(arena, at + row * size, bases[e], size, ahead, size, lanes, flat_out, row)
            for row in range(whole, end):
                dot_row_coarse(arena, at + row * size, bases[e], size, ahead, size, lanes, flat_out, row)


@numba.njit(parallel=True, nogil=True, cache=True)
def mlp_coarse(
    arena: Coarse, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, scratch: F32, sums: F32, gelu: bool,
) -> None:  # fmt: skip
    """sums[p, 0] += Σ act(gate_i·x) (up_i·x) down_i, as `plane_linear.mlp_planes`, over extents as `row_dot_coarse`.

    x is [1, D], sums [MLP_PARTS, chunk, D], scratch [MLP_PARTS, 3 · MOST_ROWS or more].
    """
    size = x.shape[1]
    stride = 3 * size
    ahead = (1 + AHEAD_BYTES // stride) * stride
    lanes, flat_sums = np.empty(size, np.float32), sums.reshape(-1)
    to_lanes(arena, x.reshape(-1), 0, lanes, 0, size)
    for part in numba.prange(MLP_PARTS):
        pairs, sums_at = scratch[part], part * sums.shape[1] * size
        to_lanes(arena, flat_sums, sums_at, flat_sums, sums_at, size)
        for e in range(first, last, 2):
            count = stops[e] - starts[e]
            end = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, end, MOST_ROWS):
                n = min(MOST_ROWS, end - i)
                at = offsets[e] + i * stride
                for j in range(n):
                    dot_two_coarse(arena, at + j * stride, bases[e], size, ahead, size, lanes, pairs, 2 * j)
                activate(gelu, pairs, 0, pairs, 2 * MOST_ROWS, n)
                add_coarse(
                    arena, at + 2 * size, bases[e], stride, MOST_ROWS * stride, size, n,
                    pairs, 2 * MOST_ROWS, flat_sums, sums_at,
                )  # fmt: skip
        from_lanes(arena, flat_sums, sums_at, flat_sums, sums_at, size)
