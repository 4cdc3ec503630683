"""Rotary embedding, the KV cache's writes, and attention over it.

Kernels take whole C-contiguous buffers and column numbers, never column slices: a slice of a batch of one is
contiguous and of
a larger batch it is not, numba would compile two versions, and their sums would differ in the last bits.
"""

import math

import numba
import numpy as np

from tidemill.actors.compute.kernels.dot import F32, add_scaled, dot


@numba.njit(nogil=True, cache=True)
def head_norm(rows: F32, first: int, heads: int, weight: F32, eps: float) -> None:
    """RMS norm of `heads` heads from column `first` of rows on, in place (Qwen3, Gemma 3); weight is [head_size]."""
    head_size = weight.shape[0]
    for b in range(rows.shape[0]):
        for h in range(heads):
            head = rows[b, first + h * head_size : first + (h + 1) * head_size]
            mean = dot(head, head) / np.float32(head_size)
            scale = np.float32(1.0) / np.float32(math.sqrt(mean + np.float32(eps)))
            for k in range(head_size):
                head[k] = head[k] * scale * weight[k]


@numba.njit(nogil=True, cache=True)
def rotate(rows: F32, heads: int, cosines: F32, sines: F32) -> None:
    """Rotate the first `heads` heads of rows, in place; cosines and sines are [B, head_size / 2].

    Pairs are (i, i + head_size / 2), as in the Hugging Face layout of q and k.
    """
    half = cosines.shape[1]
    for b in range(rows.shape[0]):
        for h in range(heads):
            head = rows[b, h * 2 * half : (h + 1) * 2 * half]
            for i in range(half):
                first, second = head[i], head[i + half]
                head[i] = first * cosines[b, i] - second * sines[b, i]
                head[i + half] = second * cosines[b, i] + first * sines[b, i]


@numba.njit(nogil=True, cache=True)
def store_kv(rows: F32, first: int, start: int, cache_keys: F32, cache_values: F32) -> None:
    """Write the keys at column `first` of rows and the values right after them at positions start.. of the caches
    [kv_heads, context, head_size]."""
    kv_heads, size = cache_keys.shape[0], cache_keys.shape[2]
    for b in range(rows.shape[0]):
        for h in range(kv_heads):
            for k in range(size):
                cache_keys[h, start + b, k] = rows[b, first + h * size + k]
                cache_values[h, start + b, k] = rows[b, first + (kv_heads + h) * size + k]


@numba.njit(parallel=True, nogil=True, cache=True)
def attend(
    rows: F32, start: int, cache_keys: F32, cache_values: F32, window: int, scale: float, scores: F32, out: F32
) -> None:
    """out[b] = causal attention of the queries in the first columns of rows, at positions start.., over the caches.

    out is [B, heads · size], the caches are [kv_heads, context, size]. A query sees the last `window` positions,
    itself included (0: all before it). `scores` is [parts, context] scratch. Every
    (query, head) is one task and runs over its positions in order, so the result does not depend on B or parts.
    """
    size = cache_keys.shape[2]
    heads = out.shape[1] // size
    group = heads // cache_keys.shape[0]
    tasks = rows.shape[0] * heads
    parts = scores.shape[0]
    for part in numba.prange(parts):
        for task in range(tasks * part // parts, tasks * (part + 1) // parts):
            b, h = task // heads, task % heads
            position = start + b
            first = max(0, position + 1 - window) if window else 0
            query = rows[b, h * size : (h + 1) * size]
            row = scores[part]
            highest = np.float32(-np.inf)
            for t in range(first, position + 1):
                row[t] = dot(cache_keys[h // group, t], query) * np.float32(scale)
                highest = max(highest, row[t])
            total = np.float32(0.0)
            for t in range(first, position + 1):
                row[t] = np.float32(math.exp(row[t] - highest))
                total += row[t]
            target = out[b, h * size : (h + 1) * size]
            target[:] = np.float32(0.0)
            for t in range(first, position + 1):
                add_scaled(row[t] / total, cache_values[h // group, t], target)
