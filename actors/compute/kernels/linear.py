"""Matrix times activations over runs of extents in the arena."""

import math

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.dot import CONTRACT, F32, Stored, add_scaled, dot
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS

I64 = npt.NDArray[np.int64]
GELU_A = np.float32(math.sqrt(2.0 / math.pi))
GELU_B = np.float32(0.044715)


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot(arena: Stored, offsets: I64, starts: I64, counts: I64, x: F32, out: F32, parts: int) -> None:
    """out[b, row] = weights[row] · x[b] for the rows of some extents of an output-row table.

    `offsets` in elements of `arena`; `starts` and `counts` say which rows an extent holds. x is [B, K], out [B, rows].
    """
    size = x.shape[1]
    total = 0
    for e in range(counts.shape[0]):
        total += counts[e]
    for part in numba.prange(parts):
        first = total * part // parts
        last = total * (part + 1) // parts
        before = 0
        for e in range(counts.shape[0]):
            for r in range(max(0, first - before), min(counts[e], last - before)):
                at = offsets[e] + r * size
                row = arena[at : at + size]
                for b in range(x.shape[0]):
                    out[b, starts[e] + r] = dot(row, x[b])
            before += counts[e]


@numba.njit(cache=True)
def _activate(gate: np.float32, gelu: bool) -> np.float32:
    if gelu:
        inner = GELU_A * (gate + GELU_B * gate * gate * gate)
        return np.float32(0.5) * gate * (np.float32(1.0) + np.float32(math.tanh(inner)))
    return gate / (np.float32(1.0) + np.float32(math.exp(-gate)))


@numba.njit(parallel=True, nogil=True, cache=True)
def mlp(arena: Stored, offsets: I64, counts: I64, x: F32, sums: F32, gelu: bool) -> None:
    """sums[p, b] += Σ act(gate_i·x[b]) (up_i·x[b]) down_i over the neurons i of some extents of a neuron table.

    Each extent's neurons are split into MLP_PARTS runs by place, one accumulator each, so the order of every sum is
    that of the table however its extents come. x is [B, D], sums [MLP_PARTS, B or more, D].
    """
    size = x.shape[1]
    for part in numba.prange(MLP_PARTS):
        for e in range(counts.shape[0]):
            for i in range(counts[e] * part // MLP_PARTS, counts[e] * (part + 1) // MLP_PARTS):
                at = offsets[e] + i * 3 * size
                gate_row = arena[at : at + size]
                up_row = arena[at + size : at + 2 * size]
                down_row = arena[at + 2 * size : at + 3 * size]
                for b in range(x.shape[0]):
                    gate = dot(gate_row, x[b])
                    hidden = _activate(gate, gelu) * dot(up_row, x[b])
                    add_scaled(hidden, down_row, sums[part, b])


@numba.njit(nogil=True, cache=True, fastmath=set(CONTRACT))
def take_sums(sums: F32, out: F32) -> None:
    """out[b] = Σ_p sums[p, b] in the order of p; those sums are zero afterwards. out is [B, D]."""
    for b in range(out.shape[0]):
        for k in range(out.shape[1]):
            total = np.float32(0.0)
            for part in range(sums.shape[0]):
                total += sums[part, b, k]
                sums[part, b, k] = np.float32(0.0)
            out[b, k] = total
