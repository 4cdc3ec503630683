"""Which channels or neurons a step computes with: everything from a threshold on. A value of NaN is kept, so that it is
seen. Sums over what is selected: kernels/bundle_linear.py and bundle_neurons.py, whose lists these are."""

import numba
import numpy as np

from tidemill.actors.compute.kernels.products import F32, I64
from tidemill.actors.compute.kernels.scalars import gelu_tanh, silu

ZERO = np.float32(0.0)


@numba.njit(nogil=True, cache=True)
def _select_of_one(x: F32, lowest: np.float32, ids: I64) -> int:
    n = 0
    for k in range(x.shape[0]):
        ids[n] = k  # without a branch: which channels are active is hard to guess
        n += not abs(x[k]) < lowest
    return n


@numba.njit(nogil=True, cache=True)
def _select_of_batch(x: F32, lowest: np.float32, ids: I64) -> int:
    batch, count = x.shape
    for k in range(count):
        ids[k] = 0
    for b in range(batch):
        row = x[b]
        for k in range(count):
            ids[k] |= not abs(row[k]) < lowest
    n = 0
    for k in range(count):
        active = ids[k]
        ids[n] = k
        n += active
    return n


@numba.njit(nogil=True, cache=True)
def select_channels(x: F32, thresholds: F32, ids: I64, factors: F32) -> int:
    """The n channels k, ascending in ids[:n], with |x[b, k]| >= the smallest threshold at some position b; and
    factors[s, b, i] = x[b, ids[i]] where that is at least thresholds[s], else 0, for i < n. Returns n.

    x [B, K], thresholds [S], ids [K or more], factors [S, B or more, K or more].
    """
    lowest = thresholds.min()
    n = _select_of_one(x[0], lowest, ids) if x.shape[0] == 1 else _select_of_batch(x, lowest, ids)
    for segment in range(thresholds.shape[0]):
        threshold = thresholds[segment]
        for b in range(x.shape[0]):
            row, out = x[b], factors[segment, b]
            for i in range(n):
                value = row[ids[i]]
                out[i] = ZERO if abs(value) < threshold else value
    return n  # type: ignore[no-any-return]


@numba.njit(nogil=True, cache=True)
def activate_gates(gates: F32, gelu: bool) -> None:
    """gates = act(gates), [B, ff]."""
    for b in range(gates.shape[0]):
        row = gates[b]
        if gelu:
            for i in range(row.shape[0]):
                row[i] = gelu_tanh(row[i])
        else:
            for i in range(row.shape[0]):
                row[i] = silu(row[i])


@numba.njit(nogil=True, cache=True)
def activate_halves(gate_up: F32, hidden: F32, gelu: bool) -> None:
    """hidden[b] = act(gate[b]) · up[b], for gate_up [B, 2 · ff] of all gates, then all ups; hidden is [B, ff]."""
    size = hidden.shape[1]
    for b in range(hidden.shape[0]):
        gate, up, row = gate_up[b, :size], gate_up[b, size:], hidden[b]
        if gelu:
            for i in range(size):
                row[i] = gelu_tanh(gate[i]) * up[i]
        else:
            for i in range(size):
                row[i] = silu(gate[i]) * up[i]
