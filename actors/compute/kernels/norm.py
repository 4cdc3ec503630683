"""RMS norms, and what closes a branch of a layer: its sum, bias and norm, the residual, and the next branch's norm."""

import math

import numba
import numpy as np

from tidemill.actors.compute.kernels.products import F32
from tidemill.actors.compute.kernels.tiles import dot

ZERO, ONE = np.float32(0.0), np.float32(1.0)


@numba.njit(nogil=True, cache=True)
def norm_row(x: F32, weight: F32, eps: np.float32, out: F32) -> None:
    """out = x / sqrt(mean(x²) + eps) · weight; out may be x."""
    size = x.shape[0]
    scale = ONE / np.float32(math.sqrt(dot(x, 0, x, 0, size) / np.float32(size) + eps))
    for k in range(size):
        out[k] = x[k] * scale * weight[k]


@numba.njit(nogil=True, cache=True)
def _close_row(
    b: int, parts: int, sums: F32, branch: F32, bias: F32, post_norm: F32,
    residual: F32, next_norm: F32, normed: F32, eps: np.float32,
) -> None:  # fmt: skip
    row, total = branch[b], residual[b]
    size = row.shape[0]
    if parts:
        row[:] = ZERO
        for part in range(parts):
            partial = sums[part, b]
            for k in range(size):
                row[k] += partial[k]
            partial[:] = ZERO
    if bias.size:
        for k in range(size):
            row[k] += bias[k]
    if post_norm.size:
        norm_row(row, post_norm, eps, row)
    for k in range(size):
        total[k] += row[k]
    if next_norm.size:
        norm_row(total, next_norm, eps, normed[b])


@numba.njit(parallel=True, nogil=True, cache=True)
def close_branch(
    parts: int, sums: F32, branch: F32, bias: F32, post_norm: F32,
    residual: F32, next_norm: F32, normed: F32, eps: np.float32,
) -> None:  # fmt: skip
    """residual[b] += post_norm(branch[b] + bias), then normed[b] = next_norm(residual[b]); [B, D] all. An empty vector
    leaves its step out.

    With `parts`, the branch is first made of sums[:parts], [parts, B or more, D], in their order; they are zero after.
    """
    if residual.shape[0] == 1:  # threads would cost more than they bring
        _close_row(0, parts, sums, branch, bias, post_norm, residual, next_norm, normed, eps)
    else:
        for b in numba.prange(residual.shape[0]):
            _close_row(b, parts, sums, branch, bias, post_norm, residual, next_norm, normed, eps)


@numba.njit(nogil=True, cache=True)
def norm_rows(x: F32, weight: F32, eps: np.float32, out: F32) -> None:
    """Each row of x by itself; [B, D]."""
    for b in range(x.shape[0]):
        norm_row(x[b], weight, eps, out[b])
