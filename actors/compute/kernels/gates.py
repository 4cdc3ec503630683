"""Gates of a gated MLP, activated where they lie apart from their neurons: all of a layer's at once."""

import numba

from tidemill.actors.compute.kernels.products import F32
from tidemill.actors.compute.kernels.scalars import gelu_tanh, silu


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
