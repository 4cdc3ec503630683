"""Matrix times activations over runs of extents in the arena, threaded.

Kernels take many arguments because a call costs some microseconds and packing them would cost more.
"""

import numba

from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS, NEURON_BLOCK
from tidemill.actors.compute.kernels.products import F32, I64, Stored, add_rows, dot_rows
from tidemill.actors.compute.kernels.scalars import gelu_tanh, silu
from tidemill.actors.compute.kernels.tiles import TILE_BATCH

FEW_NEURONS = 1  # for one position: gate, up and down stream from memory in one run


@numba.njit(nogil=True, cache=True)
def dot_run(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int, x: F32, out: F32, start: int, stop: int
) -> None:
    """What `row_dot` does, for rows [start, stop) alone: one thread's part."""
    size, batch, width = x.shape[1], x.shape[0], out.shape[1]
    for e in range(first, last):
        row, end = max(start, starts[e]), min(stop, stops[e])
        if row < end:
            at = offsets[e] // arena.itemsize + (row - starts[e]) * size
            dot_rows(arena, at, 2 * size, end - row, x, 0, size, batch, out, row, width)


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int, x: F32, out: F32, parts: int
) -> None:  # fmt: skip
    """out[b, row] = weights[row] · x[b] for the rows of extents [first, last) of an output-row table.

    `offsets[e]` is the byte where extent e lies in `arena`, and it holds rows starts[e] .. stops[e] of the table.
    x is [B, K], out [B, rows].
    """
    origin = starts[first]
    total = stops[last - 1] - origin
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        dot_run(arena, offsets, starts, stops, first, last, x, out, start, stop)


@numba.njit(nogil=True, cache=True)
def activate(gelu: bool, pairs: F32, at: int, hidden: F32, hidden_at: int, count: int) -> None:
    """hidden[i] = act(gate_i) · up_i, for gates and ups that lie in turn in `pairs`."""
    if gelu:
        for i in range(count):
            hidden[hidden_at + i] = gelu_tanh(pairs[at + 2 * i]) * pairs[at + 2 * i + 1]
    else:
        for i in range(count):
            hidden[hidden_at + i] = silu(pairs[at + 2 * i]) * pairs[at + 2 * i + 1]


@numba.njit(parallel=True, nogil=True, cache=True)
def mlp(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, scratch: F32, sums: F32, gelu: bool,
) -> None:  # fmt: skip
    """sums[p, b] += Σ act(gate_i·x[b]) (up_i·x[b]) down_i over the neurons i of extents [first, last) of a neuron
    table.

    Each extent's neurons are split into MLP_PARTS runs by place, one accumulator each, so the order of every sum is
    that of the table however its extents come. x is [B, D], sums [MLP_PARTS, chunk, D], scratch
    [MLP_PARTS, 3 · NEURON_BLOCK · chunk].
    """
    batch, size = x.shape
    chunk = sums.shape[1]
    stride = 3 * size
    at_once = NEURON_BLOCK if batch >= TILE_BATCH else FEW_NEURONS
    flat_scratch, flat_sums = scratch.reshape(-1), sums.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        pairs_at = part * scratch.shape[1]
        hidden_at = pairs_at + 2 * NEURON_BLOCK * chunk
        for e in range(first, last):
            base = offsets[e] // arena.itemsize
            count = stops[e] - starts[e]
            stop = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, stop, at_once):
                n = min(at_once, stop - i)
                at = base + i * stride
                dot_rows(arena, at, stride, 2 * n, x, 0, size, batch, flat_scratch, pairs_at, 2 * n)
                activate(gelu, flat_scratch, pairs_at, flat_scratch, hidden_at, n * batch)
                add_rows(
                    arena, at + 2 * size, stride, n, size, flat_scratch, hidden_at, n, batch,
                    flat_sums, part * chunk * size, size,
                )  # fmt: skip
