"""RMS norms and residual sums."""

import math

import numba
import numpy as np

from tidemill.actors.compute.kernels.dot import F32, dot


@numba.njit(nogil=True, cache=True)
def rms_norm(x: F32, weight: F32, eps: float, out: F32) -> None:
    """out[b] = x[b] / sqrt(mean(x[b]²) + eps) · weight; the sum of squares in the order of `dot`. x and out are [B,
    D]."""
    for b in range(x.shape[0]):
        mean = dot(x[b], x[b]) / np.float32(x.shape[1])
        scale = np.float32(1.0) / np.float32(math.sqrt(mean + np.float32(eps)))
        for k in range(x.shape[1]):
            out[b, k] = x[b, k] * scale * weight[k]


@numba.njit(nogil=True, cache=True)
def add(x: F32, out: F32) -> None:
    """out += x, both [B, D]."""
    for b in range(x.shape[0]):
        for k in range(x.shape[1]):
            out[b, k] += x[b, k]


@numba.njit(nogil=True, cache=True)
def add_bias(bias: F32, out: F32) -> None:
    """out[b] += bias."""
    for b in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[b, k] += bias[k]
