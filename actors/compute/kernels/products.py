"""Rows of weights times positions, over any number of both: which tile does which part. No choice here moves a bit."""

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.tiles import (
    TILE_BATCH,
    TILE_COLUMNS,
    TILE_ROWS,
    TILE_ROWS_OF_PAIRS,
    add_block,
    add_one,
    add_strip,
    dot_block,
    dot_one,
    dot_pair,
    dot_pairs_block,
    holds_pairs,
)

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Stored = npt.NDArray[np.generic]


@numba.njit(nogil=True, cache=True)
def dot_rows(
    weights: Stored, at: int, pair_stride: int, rows: int,
    x: F32, x_at: int, size: int, batch: int,
    out: F32, out_at: int, out_stride: int,
) -> None:  # fmt: skip
    """out[out_at + b·out_stride + r] = row r · x[x_at + b·size ...], over `size` elements.

    Rows lie in pairs `pair_stride` apart, the two of a pair adjacent. One position takes row after row, as memory
    streams fastest in one run; from TILE_BATCH positions on, several rows share the loads of x.
    """
    wide = batch // TILE_BATCH * TILE_BATCH
    row = 0
    while wide and row + 2 <= rows:
        tile_rows = TILE_ROWS_OF_PAIRS if holds_pairs(weights) else TILE_ROWS
        tall = row + tile_rows <= rows
        step = tile_rows if tall else 2
        row_at = at + row // 2 * pair_stride
        ahead = row_at + step // 2 * pair_stride
        for b in range(0, wide, TILE_BATCH):
            x_b, out_b = x_at + b * size, out_at + b * out_stride + row
            if tall and holds_pairs(weights):
                dot_pairs_block(weights, row_at, pair_stride, 0, x, x_b, size, out, out_b, out_stride)
            elif tall:
                dot_block(weights, row_at, pair_stride, ahead, x, x_b, size, out, out_b, out_stride)
            else:
                dot_pair(weights, row_at, pair_stride, ahead, x, x_b, size, out, out_b, out_stride)
        for r in range(row, row + step):
            r_at = at + r // 2 * pair_stride + r % 2 * size
            for b in range(wide, batch):
                dot_one(weights, r_at, 0, 0, x, x_at + b * size, size, out, out_at + b * out_stride + r, 0)
        row += step
    for r in range(row, rows):
        r_at = at + r // 2 * pair_stride + r % 2 * size
        for b in range(batch):
            dot_one(weights, r_at, 0, 0, x, x_at + b * size, size, out, out_at + b * out_stride + r, 0)


@numba.njit(nogil=True, cache=True)
def add_rows(
    weights: Stored, at: int, stride: int, rows: int, size: int,
    factors: F32, f_at: int, f_stride: int, batch: int,
    out: F32, out_at: int, out_stride: int,
) -> None:  # fmt: skip
    """out[out_at + b·out_stride + k] += Σ_i factors[f_at + b·f_stride + i] · row i [k], i in order, for k < size.

    Rows lie `stride` apart.
    """
    wide = batch // TILE_BATCH * TILE_BATCH
    whole = size // TILE_COLUMNS * TILE_COLUMNS
    for k in range(0, whole, TILE_COLUMNS):
        for b in range(0, wide, TILE_BATCH):
            add_block(
                weights, at + k, stride, rows, factors, f_at + b * f_stride, f_stride,
                out, out_at + b * out_stride + k, out_stride,
            )  # fmt: skip
        for b in range(wide, batch):
            add_strip(
                weights, at + k, stride, rows, factors, f_at + b * f_stride, 0, out, out_at + b * out_stride + k, 0
            )
    for b in range(batch):
        for k in range(whole, size):
            add_one(weights, at + k, stride, rows, factors, f_at + b * f_stride, 0, out, out_at + b * out_stride + k, 0)
