"""xxh3_64 with a seed, of 17 bytes and more, as the xxHash specification and XXH3_64bits_withSeed of xxhash.h give it:
the digest of single bundles, for compiled code."""

import numpy as np

from tidemill.storage.devices.native.raw_memory import (
    add_stripes,
    fold_product,
    load_u64,
    native,
    scramble_sums,
    store_u64,
)
from tidemill.storage.devices.native.xxh3_secret import SECRET

SHORTEST_BYTES = 17
SECRET_BYTES = len(SECRET)
SUMS_BYTES = 64
WORKSPACE_BYTES = SECRET_BYTES + SUMS_BYTES  # of `xxh3_64`: the sums, then the secret of a seed

STRIPE_BYTES = 64
BLOCK_STRIPES = (SECRET_BYTES - STRIPE_BYTES) // 8
BLOCK_BYTES = BLOCK_STRIPES * STRIPE_BYTES
PRIME32_1, PRIME32_2, PRIME32_3 = (np.uint64(prime) for prime in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))
PRIME64_1, PRIME64_2, PRIME64_3 = (
    np.uint64(prime) for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)
PRIME64_4, PRIME64_5 = np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)
AVALANCHE = np.uint64(0x165667919E3779F9)
S37, S32, ZERO = np.uint64(37), np.uint64(32), np.uint64(0)


@native
def _avalanche(value: np.uint64) -> np.uint64:
    value ^= value >> S37
    value *= AVALANCHE
    return value ^ (value >> S32)


@native
def _mix_16(data: int, secret: int, seed: np.uint64) -> np.uint64:
    return fold_product(load_u64(data) ^ (load_u64(secret) + seed), load_u64(data + 8) ^ (load_u64(secret + 8) - seed))


@native
def _of_at_most_128(data: int, count: int, seed: np.uint64, secret: int) -> np.uint64:
    total = np.uint64(count) * PRIME64_1
    for i in range((count - 1) // 32, -1, -1):
        total += _mix_16(data + 16 * i, secret + 32 * i, seed)
        total += _mix_16(data + count - 16 * (i + 1), secret + 32 * i + 16, seed)
    return _avalanche(total)


@native
def _of_at_most_240(data: int, count: int, seed: np.uint64, secret: int) -> np.uint64:
    total = np.uint64(count) * PRIME64_1
    for i in range(8):
        total += _mix_16(data + 16 * i, secret + 16 * i, seed)
    total = _avalanche(total)
    for i in range(8, count // 16):
        total += _mix_16(data + 16 * i, secret + 16 * (i - 8) + 3, seed)
    total += _mix_16(data + count - 16, secret + 136 - 17, seed)
    return _avalanche(total)


@native
def _open_sums(sums: int) -> None:
    store_u64(sums, PRIME32_3)
    store_u64(sums + 8, PRIME64_1)
    store_u64(sums + 16, PRIME64_2)
    store_u64(sums + 24, PRIME64_3)
    store_u64(sums + 32, PRIME64_4)
    store_u64(sums + 40, PRIME32_2)
    store_u64(sums + 48, PRIME64_5)
    store_u64(sums + 56, PRIME32_1)


@native
def _of_more(data: int, count: int, seed: np.uint64, secret: int, workspace: int) -> np.uint64:
    sums, own = workspace, workspace + SUMS_BYTES
    for i in range(0, SECRET_BYTES, 16):
        store_u64(own + i, load_u64(secret + i) + seed)
        store_u64(own + i + 8, load_u64(secret + i + 8) - seed)
    _open_sums(sums)
    blocks = (count - 1) // BLOCK_BYTES
    for block in range(blocks):
        add_stripes(sums, data + block * BLOCK_BYTES, own, BLOCK_STRIPES)
        scramble_sums(sums, own + SECRET_BYTES - STRIPE_BYTES, PRIME32_1)
    rest = (count - 1 - blocks * BLOCK_BYTES) // STRIPE_BYTES
    add_stripes(sums, data + blocks * BLOCK_BYTES, own, rest)
    add_stripes(sums, data + count - STRIPE_BYTES, own + SECRET_BYTES - STRIPE_BYTES - 7, 1)
    total = np.uint64(count) * PRIME64_1
    for i in range(0, SUMS_BYTES, 16):
        total += fold_product(
            load_u64(sums + i) ^ load_u64(own + 11 + i), load_u64(sums + i + 8) ^ load_u64(own + 19 + i)
        )
    return _avalanche(total)


@native
def xxh3_64(data: int, count: int, seed: np.uint64, secret: int, workspace: int) -> np.uint64:
    """Of `count` >= 17 bytes at address `data`. `secret` is where SECRET lies, `workspace` has WORKSPACE_BYTES and
    begins on a cache line."""
    if count <= 128:
        return _of_at_most_128(data, count, seed, secret)
    if count <= 240:
        return _of_at_most_240(data, count, seed, secret)
    return _of_more(data, count, seed, secret, workspace)
