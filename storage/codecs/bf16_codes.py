"""A bf16 weight as a code of 8 bits and a lower mantissa of 4, bit for bit, exceptions aside.

Code: sign · 4 bits of exponent, counted from an even `base` · the upper 3 bits of the mantissa. All bits but the sign 0
in both parts is a zero. *Exceptions* are weights whose exponent lies outside base .. base + 15, and the power of two
whose code would be the zero's: they are given whole, `place in the row << 16 | bf16`.

Weights come in blocks of BLOCK of a row, of which byte 16 q + 8 h + 2 i + p of the codes is weight 32 h + 16 p + 4 q +
i (q < 4, h < 2, i < 4, p < 2): joining both parts byte by byte then leaves pairs of weights that widen to f32 by one
shift and one mask. Byte m of a block's BLOCK / 2 of lower mantissas belongs to codes 2 m (low bits) and 2 m + 1 (high).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.codec import Bytes

BLOCK = 64
ROW_ELEMENTS_MAX = 1 << 16  # an exception's place has 16 bits
EXPONENTS = 16
MIDDLE_NIBBLE = 8  # of the 16 lower mantissas of a code
EXCEPTION_BYTES = 4
EXPONENT_BASE_MAX = 256 - EXPONENTS
EXPONENT_BASE_STEP = 2  # the upper byte of a bf16 ends within the exponent: an even base never carries into it

Words = npt.NDArray[np.uint16]
Counts = npt.NDArray[np.int64]


class SplitWeights(NamedTuple):
    """Codes and pairs of lower mantissas in block order, flat, and where the exceptions are, [N, E]."""

    codes: Bytes
    nibbles: Bytes
    outside: npt.NDArray[np.bool_]


def find_exponent_bases(counts: Counts) -> Counts:
    """Of exponents counted [N, 256]: for each of N, the even base whose 16 exponents hold most of them, zeros aside;
    the highest of equals."""
    sums = np.zeros((len(counts), 257), np.int64)
    np.cumsum(counts[:, 1:], axis=1, out=sums[:, 2:])  # zeros have a code with any base; subnormals are rare
    inside = (sums[:, EXPONENTS:] - sums[:, :-EXPONENTS])[:, ::EXPONENT_BASE_STEP]
    bases: Counts = EXPONENT_BASE_STEP * (inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1))
    return bases


def find_exponent_base(exponents: npt.NDArray[np.uint8]) -> int:
    """The base of all the given exponents together."""
    return int(find_exponent_bases(np.bincount(exponents.reshape(-1), minlength=256)[None, :])[0])


def exponents_of(weights: Words) -> npt.NDArray[np.uint8]:
    return ((weights >> 7) & 0xFF).astype(np.uint8)


def exception_share(weights: Words) -> float:
    """Of bf16 weights as u16: the share that codes of one base cannot express."""
    exponents = exponents_of(weights)
    outside = (exponents - np.uint8(find_exponent_base(exponents))) >= EXPONENTS
    return float(np.mean(outside & ((weights & 0x7FFF) != 0)))


def split_weights(weights: Words, bases: npt.NDArray[np.uint8]) -> SplitWeights:
    """Weights [N, E] of bases [N, 1] or [1, 1]; E is a multiple of BLOCK."""
    exponents = exponents_of(weights)
    signs = ((weights >> 8) & 0x80).astype(np.uint8)
    offsets = exponents - bases
    codes: Bytes = (signs | (offsets << 3) | ((weights >> 4) & 7)).astype(np.uint8)
    lows = (weights & 15).astype(np.uint8)
    magnitudes = weights & 0x7FFF
    is_zero = magnitudes == 0
    outside = ((offsets >= EXPONENTS) | (magnitudes == bases.astype(np.uint16) << 7)) & ~is_zero
    coarse = outside | is_zero
    if coarse.any():  # for exceptions as near as a code comes, for whoever uses codes alone
        codes[coarse] = np.where(exponents <= bases, signs, signs | 0x7F)[coarse]
        lows[coarse] = 0
    halves = _pair(lows).reshape(-1, 2)
    nibbles: Bytes = halves[:, 0] | (halves[:, 1] << np.uint8(4))
    return SplitWeights(_pair(codes), nibbles, outside)


def join_weights(codes: Bytes, nibbles: Bytes, bases: Words) -> Words:
    """Flat codes and nibbles of N rows, bases [N, 1] or [1, 1] → weights [N, E], exceptions still to be put in."""
    uppers = _unpair(codes).astype(np.uint16)
    lows = _unpair(np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(-1))
    magnitudes = (((uppers & 0x7F) << 4) | lows).reshape(len(bases), -1)
    signs = ((uppers & 0x80) << 8).reshape(len(bases), -1)
    weights = signs | np.where(magnitudes, magnitudes + (bases << 7), np.uint16(0))
    return weights.astype(np.uint16, copy=False)


def coarse_weights(codes: Bytes, bases: Words) -> Words:
    """As `join_weights`, of codes alone: weights in the middle of what their code may mean. Zeros stay zero, for they
    are more often exact than a weight of a table's least exponent; exceptions are as near as a code comes."""
    nibbles = np.full(len(codes) // 2, MIDDLE_NIBBLE << 4 | MIDDLE_NIBBLE, np.uint8)
    weights = join_weights(codes, nibbles, bases)
    return np.where((_unpair(codes) & 0x7F).reshape(weights.shape), weights, np.uint16(0))


def _pair(values: Bytes) -> Bytes:
    """Blocks of a row in their order, [h, p, q, i] → in the order of codes, [q, h, i, p]; flat."""
    return np.ascontiguousarray(values.reshape(-1, 2, 2, 4, 4).transpose(0, 3, 1, 4, 2)).reshape(-1)


def _unpair(values: Bytes) -> Bytes:
    return np.ascontiguousarray(values.reshape(-1, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3)).reshape(-1)
