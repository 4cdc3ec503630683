"""Rotary embedding, the KV cache's writes, and attention over it: all of a layer between its two big matrices.

Keys lie in blocks of KEY_BLOCK positions, element by element ([kv_heads, blocks, head_size, KEY_BLOCK]), so that scores
are sums over rows, without a sum across lanes; values lie position by position ([kv_heads, positions, head_size]).
Heads that share a key head are computed together where there is enough to do: a key is then read once for all of them.
"""

import numba
import numpy as np

from tidemill.actors.compute.kernels.linear_parts import KEY_BLOCK
from tidemill.actors.compute.kernels.norm import norm_row
from tidemill.actors.compute.kernels.products import F32, add_rows
from tidemill.actors.compute.kernels.scalars import exp
from tidemill.actors.compute.kernels.tiles import dot, highest

ZERO, ONE, LOWEST = np.float32(0.0), np.float32(1.0), np.float32(-np.inf)


@numba.njit(nogil=True, cache=True)
def _prepare(
    row: F32, position: int, cosines: F32, sines: F32, bias: F32, q_norm: F32, k_norm: F32, eps: np.float32,
    keys: F32, values: F32,
) -> None:  # fmt: skip
    """Bias, head norms and rotation of one position's q and k, in place; then its keys and values into the caches."""
    kv_heads, size, half = keys.shape[0], keys.shape[2], cosines.shape[0]
    heads = row.shape[0] // size - 2 * kv_heads
    if bias.size:
        for k in range(row.shape[0]):
            row[k] += bias[k]
    for h in range(heads + kv_heads):
        head = row[h * size : (h + 1) * size]
        if q_norm.size:
            norm_row(head, q_norm if h < heads else k_norm, eps, head)
        low, high = head[:half], head[half:]
        for i in range(half):
            first, second = low[i], high[i]
            low[i] = first * cosines[i] - second * sines[i]
            high[i] = second * cosines[i] + first * sines[i]
    for h in range(kv_heads):
        key = row[(heads + h) * size : (heads + h + 1) * size]
        value = row[(heads + kv_heads + h) * size : (heads + kv_heads + h + 1) * size]
        block = keys[h, position // KEY_BLOCK]
        for k in range(size):
            block[k, position % KEY_BLOCK] = key[k]
        values[h, position, :] = value


@numba.njit(nogil=True, cache=True)
def _soften(scores: F32, valid_start: int, valid_stop: int, scale: np.float32, ones: F32) -> np.float32:
    """scores = exp(scale · (scores - their highest)) inside the valid range, next to 0 outside; returns their sum.

    In blocks of KEY_BLOCK, the blocks' sums in order.
    """
    scores[:valid_start] = LOWEST
    scores[valid_stop:] = LOWEST
    top = highest(scores, 0, scores.shape[0])
    for t in range(scores.shape[0]):
        scores[t] = exp((scores[t] - top) * scale)
    total = ZERO
    for at in range(0, scores.shape[0], KEY_BLOCK):
        total += dot(scores, at, ones, 0, KEY_BLOCK)
    return total


@numba.njit(nogil=True, cache=True)
def _attend_heads(
    queries: F32, query_at: int, group: int, first: int, position: int, keys: F32, values: F32, head: int,
    scale: np.float32, scratch: F32, ones: F32, out: F32, out_at: int,
) -> None:  # fmt: skip
    """`group` adjacent queries of one position against one key head, over positions first .. position."""
    size = keys.shape[2]
    origin = first // KEY_BLOCK
    blocks = position // KEY_BLOCK + 1 - origin
    room = blocks * KEY_BLOCK
    scores, sums = scratch[: group * room], scratch[group * room : group * (room + size)]
    scores[:] = ZERO
    for block in range(blocks):
        at = ((head * keys.shape[1]) + origin + block) * size * KEY_BLOCK
        add_rows(
            keys, at, KEY_BLOCK, size, KEY_BLOCK, queries, query_at, size, group, scores, block * KEY_BLOCK, room
        )  # fmt: skip
    target = out[out_at : out_at + group * size]
    target[:] = ZERO
    valid_start, valid_stop = first - origin * KEY_BLOCK, position + 1 - origin * KEY_BLOCK
    totals = ZERO
    for g in range(group):
        totals = _soften(scores[g * room : (g + 1) * room], valid_start, valid_stop, scale, ones)
        factor = ONE / totals
        for t in range(g * room, (g + 1) * room):
            scores[t] *= factor
    for block in range(blocks):
        start = max(valid_start, block * KEY_BLOCK)
        rows = min(valid_stop, (block + 1) * KEY_BLOCK) - start
        sums[:] = ZERO
        at = (head * values.shape[1] + origin * KEY_BLOCK + start) * size
        add_rows(values, at, size, rows, size, scores, start, room, group, sums, 0, size)
        for k in range(group * size):
            target[k] += sums[k]


@numba.njit(parallel=True, nogil=True, cache=True)
def attend(
    qkv: F32, start: int, cosines: F32, sines: F32, bias: F32, q_norm: F32, k_norm: F32, eps: np.float32,
    keys: F32, values: F32, window: int, scale: np.float32, scratch: F32, ones: F32, out: F32,
) -> None:  # fmt: skip
    """out[b] = causal attention of position start + b, whose projections are qkv[b], over all positions up to it.

    qkv is [B, (heads + 2 · kv_heads) · size], cosines and sines [B, size / 2], out [B, heads · size]; bias and head
    norms may be empty. A query sees the last `window` positions, itself included (0: all before it). scratch is
    [parts, ...], see `scratch_floats`; ones is KEY_BLOCK times 1. Every (query, head) sums over its positions in their
    order, so the result does not depend on B or parts.
    """
    batch, parts = qkv.shape[0], scratch.shape[0]
    kv_heads, size = keys.shape[0], keys.shape[2]
    heads = out.shape[1] // size
    if batch == 1:  # threads would cost more than they bring
        _prepare(qkv[0], start, cosines[0], sines[0], bias, q_norm, k_norm, eps, keys, values)
    else:
        for b in numba.prange(batch):
            _prepare(qkv[b], start + b, cosines[b], sines[b], bias, q_norm, k_norm, eps, keys, values)
    group = heads // kv_heads
    at_once = group if kv_heads * batch >= 4 * parts else 1
    tasks = heads // at_once * batch
    flat_qkv, flat_out = qkv.reshape(-1), out.reshape(-1)
    for part in numba.prange(parts):
        for task in range(tasks * part // parts, tasks * (part + 1) // parts):
            # Head by head, so that every part has early and late positions alike.
            h, b = task // batch * at_once, task % batch
            position = start + b
            first = max(0, position + 1 - window) if window else 0
            _attend_heads(
                flat_qkv, b * qkv.shape[1] + h * size, at_once, first, position, keys, values, h // group,
                scale, scratch[part], ones, flat_out, b * out.shape[1] + h * size,
            )  # fmt: skip
