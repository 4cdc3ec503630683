"""Rows of weights times positions, over any number of both: which tile does which part. No choice here moves a bit."""

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.tiles import (
    TILE_BATCH,
    TILE_COLUMNS,
    add_single,
    add_strip,
    dot_single,
    dot_tall,
    tall_rows,
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
    streams fastest in one run; for more, several rows share the loads of x, and the batch is split into tiles of
    nearly equal size, so that its cost rises evenly.
    """
    tiles = (batch + TILE_BATCH - 1) // TILE_BATCH
    row, tall = 0, tall_rows(weights)
    while batch > 1 and row + tall <= rows:
        row_at = at + row // 2 * pair_stride
        ahead = row_at + tall // 2 * pair_stride
        for t in range(tiles):
            b, end = batch * t // tiles, batch * (t + 1) // tiles
            dot_tall(
                weights, row_at, pair_stride, ahead, x, x_at + b * size, size, end - b,
                out, out_at + b * out_stride + row, out_stride,
            )  # fmt: skip
        row += tall
    for r in range(row, rows):
        r_at = at + r // 2 * pair_stride + r % 2 * size
        for t in range(tiles):
            b, end = batch * t // tiles, batch * (t + 1) // tiles
            dot_single(
                weights, r_at, 0, 0, x, x_at + b * size, size, end - b, out, out_at + b * out_stride + r, out_stride
            )


@numba.njit(nogil=True, cache=True)
def add_rows(
    weights: Stored, at: int, stride: int, rows: int, size: int,
    factors: F32, f_at: int, f_stride: int, batch: int,
    out: F32, out_at: int, out_stride: int,
) -> None:  # fmt: skip
    """out[out_at + b·out_stride + k] += Σ_i factors[f_at + b·f_stride + i] · row i [k], i in order, for k < size.

    Rows lie `stride` apart.
    """
    tiles = (batch + TILE_BATCH - 1) // TILE_BATCH
    whole = size // TILE_COLUMNS * TILE_COLUMNS
    for k in range(0, whole, TILE_COLUMNS):
        for t in range(tiles):
            b, end = batch * t // tiles, batch * (t + 1) // tiles
            add_strip(
                weights, at + k, stride, rows, factors, f_at + b * f_stride, f_stride, end - b,
                out, out_at + b * out_stride + k, out_stride,
            )  # fmt: skip
    for k in range(whole, size):
        for t in range(tiles):
            b, end = batch * t // tiles, batch * (t + 1) // tiles
            add_single(
                weights, at + k, stride, rows, factors, f_at + b * f_stride, f_stride, end - b,
                out, out_at + b * out_stride + k, out_stride,
            )  # fmt: skip
