"""The MLP in two phases, so that something can be decided between them: gates and ups of every neuron first, then what
down adds of their products. In the order of `linear.mlp` and `plane_linear.mlp_planes`, so with the same bits.

For steps that select or are looked at. Exact steps take the fused kernels, which never store a neuron.
"""

import numba
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, MLP_PARTS
from tidemill.actors.compute.kernels.plane_linear import Joined, join_rows
from tidemill.actors.compute.kernels.planes import U8, U32
from tidemill.actors.compute.kernels.products import F32, I64, Stored, add_rows, dot_rows
from tidemill.actors.compute.kernels.scalars import gelu_tanh, silu


@numba.njit(nogil=True, cache=True)
def _activate(gelu: bool, gates: F32, ups: F32, start: int, stop: int, batch: int) -> None:
    """gates = act(gates), ups = gates · ups."""
    for b in range(batch):
        if gelu:
            for i in range(start, stop):
                gates[b, i] = gelu_tanh(gates[b, i])
                ups[b, i] = gates[b, i] * ups[b, i]
        else:
            for i in range(start, stop):
                gates[b, i] = silu(gates[b, i])
                ups[b, i] = gates[b, i] * ups[b, i]


@numba.njit(parallel=True, nogil=True, cache=True)
def neurons(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int,
    x_gate: F32, x_up: F32, rows: Stored, gates: F32, ups: F32, gelu: bool,
) -> None:  # fmt: skip
    """gates[b, i] = act(gate_i · x_gate[b]), ups[b, i] = gates[b, i] · (up_i · x_up[b]) for the neurons i of extents
    [first, last) of a neuron table.

    x_gate and x_up are [B, D], gates and ups [chunk, neurons], rows [threads, 2 · D or more] of the table's element.
    """
    batch, size = x_gate.shape
    width = gates.shape[1]
    at_once = min(JOINED_NEURONS, rows.shape[1] // (2 * size))
    flat_gates, flat_ups = gates.reshape(-1), ups.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        scratch = rows[get_thread_id()]
        for e in range(first, last):
            at, count = offsets[e] // arena.itemsize, stops[e] - starts[e]
            end = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, end, at_once):
                n = min(at_once, end - i)
                for r in range(n):  # rows of one kind next to each other, as tiles take them
                    row = at + 3 * (i + r) * size
                    scratch[r * size : (r + 1) * size] = arena[row : row + size]
                    scratch[(n + r) * size : (n + r + 1) * size] = arena[row + size : row + 2 * size]
                place = starts[e] + i
                dot_rows(scratch, 0, 2 * size, n, x_gate, 0, size, batch, flat_gates, place, width)
                dot_rows(scratch, n * size, 2 * size, n, x_up, 0, size, batch, flat_ups, place, width)
                _activate(gelu, gates, ups, place, place + n, batch)


@numba.njit(parallel=True, nogil=True, cache=True)
def neurons_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x_gate: F32, x_up: F32, joined: Joined, gates: F32, ups: F32, gelu: bool,
) -> None:  # fmt: skip
    """As `neurons`, over pairs of extents as `plane_linear.mlp_planes`."""
    batch, size = x_gate.shape
    width = gates.shape[1]
    at_once = min(JOINED_NEURONS, joined.shape[1] * joined.itemsize // (4 * size))
    words_of_row = 2 * size // joined.itemsize
    flat_gates, flat_ups = gates.reshape(-1), ups.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        rows = joined[get_thread_id()]
        for e in range(first, last, 2):
            codes_at, rest_at, count = offsets[e], offsets[e + 1], stops[e] - starts[e]
            end = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, end, at_once):
                n = min(at_once, end - i)
                for r in range(2 * n):  # n gates, then n ups
                    row = 3 * (i + r % n) + r // n
                    join_rows(
                        arena, words, codes_at, rest_at, row, 1, 3 * count, size, bases[e], rows[r * words_of_row :]
                    )  # fmt: skip
                place = starts[e] + i
                dot_rows(rows, 0, 2 * size, n, x_gate, 0, size, batch, flat_gates, place, width)
                dot_rows(rows, n * size, 2 * size, n, x_up, 0, size, batch, flat_ups, place, width)
                _activate(gelu, gates, ups, place, place + n, batch)


@numba.njit(parallel=True, nogil=True, cache=True)
def add_downs(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int, products: F32, batch: int, sums: F32
) -> None:
    """sums[p, b] += Σ products[b, i] · down_i over the neurons i of extents [first, last) of a neuron table.

    products is [chunk, neurons], sums [MLP_PARTS, chunk, D].
    """
    width, chunk, size = products.shape[1], sums.shape[1], sums.shape[2]
    flat_products, flat_sums = products.reshape(-1), sums.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        for e in range(first, last):
            at, count = offsets[e] // arena.itemsize, stops[e] - starts[e]
            end = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, end, JOINED_NEURONS):
                n = min(JOINED_NEURONS, end - i)
                add_rows(
                    arena, at + (3 * i + 2) * size, 3 * size, n, size, flat_products, starts[e] + i, width, batch,
                    flat_sums, part * chunk * size, size,
                )  # fmt: skip


@numba.njit(parallel=True, nogil=True, cache=True)
def add_downs_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    products: F32, batch: int, joined: Joined, sums: F32,
) -> None:  # fmt: skip
    """As `add_downs`, over pairs of extents."""
    width, chunk, size = products.shape[1], sums.shape[1], sums.shape[2]
    at_once = min(JOINED_NEURONS, joined.shape[1] * joined.itemsize // (2 * size))
    words_of_row = 2 * size // joined.itemsize
    flat_products, flat_sums = products.reshape(-1), sums.reshape(-1)
    for part in numba.prange(MLP_PARTS):
        rows = joined[get_thread_id()]
        for e in range(first, last, 2):
            codes_at, rest_at, count = offsets[e], offsets[e + 1], stops[e] - starts[e]
            end = count * (part + 1) // MLP_PARTS
            for i in range(count * part // MLP_PARTS, end, at_once):
                n = min(at_once, end - i)
                for r in range(n):
                    join_rows(
                        arena, words, codes_at, rest_at, 3 * (i + r) + 2, 1, 3 * count, size, bases[e],
                        rows[r * words_of_row :],
                    )  # fmt: skip
                add_rows(
                    rows, 0, size, n, size, flat_products, starts[e] + i, width, batch,
                    flat_sums, part * chunk * size, size,
                )  # fmt: skip
