"""Reads memory and does as good as nothing with it: the rate that every other kernel is held against."""

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(parallel=True, nogil=True, cache=True)
def read_words(words: npt.NDArray[np.uint64], sums: npt.NDArray[np.uint64]) -> None:
    """sums[p] = the exclusive-or of the p-th part of `words`; one thread per part."""
    parts = sums.shape[0]
    for part in numba.prange(parts):
        own = words[words.shape[0] * part // parts : words.shape[0] * (part + 1) // parts]
        total = np.uint64(0)
        for k in range(own.shape[0]):  # from 0 on: an index that might be negative is not vectorised
            total ^= own[k]
        sums[part] = total
