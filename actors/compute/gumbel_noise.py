"""Gumbel noise as a function of (seed, position, token id) alone: no state, and any ids in any order.

The bits are SplitMix64's: output number `id` of the generator that a (seed, position) begins.
"""

import numpy as np
import numpy.typing as npt

# SplitMix64's increment and mixer (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
# figure 17; the mixer is Stafford's variant 13).
INCREMENT = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = (1 << 64) - 1
# u is a 52-bit number and a half, over 2^52: exact in f64, never 0 and never 1.
UNIT_BITS = 52


def gumbel_noise(seed: int, position: int, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for token `ids` [N]: -ln(-ln u), u uniform; f64 [N], between -3.6 and 36.8."""
    stream = _mix(_mix(seed & MASK) + position * INCREMENT & MASK)
    words = ids.astype(np.uint64)
    words += np.uint64(1)
    words *= np.uint64(INCREMENT)
    words += np.uint64(stream)
    shifted = np.empty_like(words)
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        np.right_shift(words, np.uint64(shift), out=shifted)
        words ^= shifted
        words *= np.uint64(factor)
    np.right_shift(words, np.uint64(31), out=shifted)
    words ^= shifted
    words >>= np.uint64(64 - UNIT_BITS)
    noise = words.astype(np.float64)
    noise += 0.5
    noise *= 2.0**-UNIT_BITS
    np.log(noise, out=noise)
    np.negative(noise, out=noise)
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)


def _mix(word: int) -> int:
    """SplitMix64's mixer, of one word."""
    word = (word ^ word >> 30) * MIX_1 & MASK
    word = (word ^ word >> 27) * MIX_2 & MASK
    return word ^ word >> 31
