"""Active neurons of an MLP whose bundles lie anywhere in the arena, threaded: as kernels/bundle_linear.py, of which
sums, lists of bundles and independence from batches and places are the same."""

import numba
import numpy as np
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.bundle_linear import (
    TAIL_BYTES,
    bundles_ahead,
    next_of_part,
    open_segment,
    weights_of_word,
)
from tidemill.actors.compute.kernels.bundle_rows import add_span, dot_span, fetch_bytes, is_coded, join_span
from tidemill.actors.compute.kernels.linear import activate
from tidemill.actors.compute.kernels.linear_parts import JOINED_NEURONS, MLP_PARTS
from tidemill.actors.compute.kernels.planes import U32
from tidemill.actors.compute.kernels.products import F32, I64, Stored, add_rows, dot_rows

ZERO = np.float32(0.0)


@numba.njit(nogil=True, cache=True)
def _dot(
    weights: Stored, words: U32, place: int, ahead: int, size: int, rows: int, row: int, x: F32
) -> np.float32:  # fmt: skip
    base, first, last = np.int64(0), np.int64(0), np.int64(0)
    if is_coded(weights):
        base, first, last = open_segment(words, place, rows * size, rows, row, 0)
    return dot_span(  # type: ignore[no-any-return]
        weights, words, place, ahead, rows * size, row * size, base, first, last, 0, size, x, 0
    )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _neuron(
    weights: Stored, words: U32, place: int, ahead: int, size: int, rows: int, gate: np.float32,
    x: F32, pair: F32, gelu: bool, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    """One neuron for one position, in one run over its bundle."""
    if rows == 3:
        pair[0] = _dot(weights, words, place, ahead, size, rows, 0, x)
        pair[1] = _dot(weights, words, place, ahead, size, rows, 1, x)
        activate(gelu, pair, 0, pair, 2, 1)
    else:
        pair[2] = gate * _dot(weights, words, place, ahead, size, rows, 0, x)
    base, first, last = np.int64(0), np.int64(0), np.int64(0)
    if is_coded(weights):
        base, first, last = open_segment(words, place, rows * size, rows, rows - 1, 0)
    add_span(
        weights, words, place, ahead, rows * size, (rows - 1) * size, base, first, last, 0, size, pair[2], sums, sums_at
    )


@numba.njit(nogil=True, cache=True)
def _next_active(ids: I64, i: int, last: int, part: int, gates: F32) -> int:
    """The next entry of the part from i on whose neuron is active at the first position."""
    i = next_of_part(ids, i, last, part, MLP_PARTS)
    while i < last and gates.size and gates[0, i] == ZERO:
        i = next_of_part(ids, i + 1, last, part, MLP_PARTS)
    return i


@numba.njit(nogil=True, cache=True)
def _neurons_of_one(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, rows: int, part: int, size: int,
    x: F32, gates: F32, pair: F32, gelu: bool, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    i = ahead = _next_active(ids, first, last, part, gates)
    for _ in range(bundles_ahead(rows * size)):
        ahead = _next_active(ids, ahead + 1, last, part, gates)
    while i < last:
        place_ahead = places[ahead] if ahead < last else places[i]
        if is_coded(weights):
            fetch_bytes(words, place_ahead + rows * size * 3 // 2, TAIL_BYTES)
        gate = gates[0, i] if gates.size else ZERO
        _neuron(weights, words, places[i], place_ahead, size, rows, gate, x, pair, gelu, sums, sums_at)
        i = _next_active(ids, i + 1, last, part, gates)
        ahead = _next_active(ids, ahead + 1, last, part, gates)


@numba.njit(nogil=True, cache=True)
def _join_neurons(
    weights: Stored, words: U32, places: I64, ids: I64, i: int, last: int, rows: int, part: int, size: int,
    at_once: int, out: Stored,
) -> tuple[np.int64, np.int64]:  # fmt: skip
    """As many of the part's neurons from entry i on as go at once: what their dots need, in pairs or one by one, then
    from 2 (or 1) · at_once · size on their downs. Returns (neurons, the entry behind them)."""
    n = np.int64(0)
    inputs = rows - 1
    while i < last and n < at_once:
        following = next_of_part(ids, i + 1, last, part, MLP_PARTS)
        ahead = places[i] if following == last else places[following]
        for row in range(rows):
            base, first, behind = np.int64(0), np.int64(0), np.int64(0)
            if is_coded(weights):
                base, first, behind = open_segment(words, places[i], rows * size, rows, row, 0)
            to = n * inputs + row if row < inputs else at_once * inputs + n
            join_span(
                weights, words, places[i], ahead, rows * size, row * size, base, first, behind, 0, size, out, to * size
            )
        n += 1
        i = following
    return n, np.int64(i)


@numba.njit(nogil=True, cache=True)
def _activate_group(
    ids: I64, i: int, last: int, n: int, part: int, rows: int, gates: F32, batch: int, gelu: bool,
    scratch: F32, dots_at: int, hidden_at: int,
) -> None:  # fmt: skip
    """hidden[b, j] of the n neurons of the part from entry i on, zero where one is not active."""
    if rows == 3:
        activate(gelu, scratch, dots_at, scratch, hidden_at, n * batch)
    if not gates.size:
        return
    for j in range(n):
        for b in range(batch):
            gate, at = gates[b, i], b * n + j
            if gate == ZERO:
                scratch[hidden_at + at] = ZERO
            elif rows == 2:
                scratch[hidden_at + at] = gate * scratch[dots_at + at]
        i = next_of_part(ids, i + 1, last, part, MLP_PARTS)


@numba.njit(nogil=True, cache=True)
def _neurons_of_batch(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, rows: int, part: int,
    x: F32, gates: F32, joined: Stored, scratch: F32, dots_at: int, gelu: bool, sums: F32, sums_at: int,
) -> None:  # fmt: skip
    batch, size = x.shape
    at_once = min(JOINED_NEURONS, joined.shape[0] * weights_of_word(joined) // (rows * size))
    inputs = rows - 1
    hidden_at = dots_at + inputs * at_once * batch
    i = next_of_part(ids, first, last, part, MLP_PARTS)
    while i < last:
        n, following = _join_neurons(weights, words, places, ids, i, last, rows, part, size, at_once, joined)
        dot_rows(joined, 0, 2 * size, inputs * n, x, 0, size, batch, scratch, dots_at, inputs * n)
        _activate_group(ids, i, last, n, part, rows, gates, batch, gelu, scratch, dots_at, hidden_at)
        downs = inputs * at_once * size
        add_rows(joined, downs, size, n, size, scratch, hidden_at, n, batch, sums, sums_at, size)
        i = following


@numba.njit(parallel=True, nogil=True, cache=True)
def add_neurons(
    weights: Stored, words: U32, places: I64, ids: I64, first: int, last: int, rows: int,
    x: F32, gates: F32, joined: Stored, scratch: F32, sums: F32, gelu: bool,
) -> None:  # fmt: skip
    """sums[ids[i] % MLP_PARTS, b] += h(i, b) down_i for entries first <= i < last of the list.

    With `rows` 3 a bundle is gate_i ‖ up_i ‖ down_i and h = act(gate_i · x[b]) (up_i · x[b]) where gates[b, i] != 0, or
    everywhere if `gates` is [0, 0]. With `rows` 2 it is up_i ‖ down_i and h = gates[b, i] (up_i · x[b]). Where
    gates[b, i] is zero, h is zero; at batch 1 that costs nothing.

    Weights, words, places and ids as `bundle_linear.add_channels`. x [B, D]; gates [B or more, entries or more]; joined
    [threads, ≥ 8 · rows · D weights]; scratch [MLP_PARTS, ≥ 3 · JOINED_NEURONS · B]; sums [MLP_PARTS, B or more, D].
    """
    batch, size = x.shape
    chunk = sums.shape[1]
    if batch > 1 and joined.shape[1] * weights_of_word(joined) < rows * size:
        raise ValueError("scratch for joined neurons holds less than one")
    flat_x, flat_scratch, flat_sums = x.reshape(-1), scratch.reshape(-1), sums.reshape(-1)
    for number in numba.prange(MLP_PARTS):
        part = np.int64(number)  # else unsigned here only: everything that is called below would be compiled twice
        sums_at = part * chunk * size
        if batch == 1:
            _neurons_of_one(
                weights, words, places, ids, first, last, rows, part, size,
                flat_x, gates, scratch[part], gelu, flat_sums, sums_at,
            )  # fmt: skip
        else:
            _neurons_of_batch(
                weights, words, places, ids, first, last, rows, part, x, gates, joined[get_thread_id()],
                flat_scratch, part * scratch.shape[1], gelu, flat_sums, sums_at,
            )  # fmt: skip
