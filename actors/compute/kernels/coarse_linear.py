"""Matrix times one position over plane 0 of extents that lie in planes, threaded: what drafts are made of.

As kernels/plane_linear.py, but of a position's two planes only the first is read (kernels/coarse_rows.py).
"""

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.coarse_rows import (
    add_row_coarse,
    add_two_coarse,
    dot_row_coarse,
    dot_two_coarse,
)
from tidemill.actors.compute.kernels.linear import activate
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
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
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    origin = starts[first]
    total = stops[last - 1] - origin
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        for e in range(first, last, 2):
            begin, end = max(start, starts[e]), min(stop, stops[e])
            at = offsets[e] - starts[e] * size
            for row in range(begin, end - 1, 2):
                dot_two_coarse(arena, at + row * size, bases[e], flat_x, size, flat_out, row)
            if begin < end and (end - begin) % 2:
                dot_row_coarse(arena, at + (end - 1) * size, bases[e], flat_x, size, flat_out, end - 1)


@numba.njit(parallel=True, nogil=True, cache=True)
def mlp_coarse(
    arena: Coarse, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, scratch: F32, sums: F32, gelu: bool,
) -> None:  # fmt: skip
    """sums[p, 0] += Σ act(gate_i·x) (up_i·x) down_i, as `plane_linear.mlp_planes`, over extents as `row_dot_coarse`.

    x is [1, D], sums [MLP_PARTS, chunk, D], scratch [MLP_PARTS, 6 or more].
    """
    size = x.shape[1]
    row_stride, part_stride = 3 * size, sums.shape[1] * size
    flat_x, flat_sums = x.reshape(-1), sums.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        pairs = scratch[part]
        for e in range(first, last, 2):
            count = stops[e] - starts[e]
            begin, end = count * part // MLP_PARTS, count * (part + 1) // MLP_PARTS
            for i in range(begin, end, 2):
                two = min(2, end - i)
                at = offsets[e] + i * row_stride
                for n in range(two):
                    dot_two_coarse(arena, at + n * row_stride, bases[e], flat_x, size, pairs, 2 * n)
                activate(gelu, pairs, 0, pairs, 4, two)
                down = at + 2 * size
                if two == 2:
                    add_two_coarse(
                        arena, down, bases[e], row_stride, pairs, 4, flat_sums, part * part_stride, size
                    )  # fmt: skip
                else:
                    add_row_coarse(arena, down, bases[e], row_stride, pairs, 4, flat_sums, part * part_stride, size)
