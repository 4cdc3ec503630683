"""Histograms of magnitudes in bounded memory, whatever the length of the text, and their quantiles: the thresholds."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

# Bins are the upper bits of a float32: its exponent and 6 bits of its mantissa, so each is 1/64 of its value wide.
SHIFT = 17
BINS_PER_OCTAVE = 1 << (23 - SHIFT)
LOWEST_EXPONENT, OCTAVES = -24, 40  # what is smaller or larger falls into the first or last bin
FIRST = (LOWEST_EXPONENT + 127) * BINS_PER_OCTAVE
BINS = OCTAVES * BINS_PER_OCTAVE

LEVELS: npt.NDArray[np.float64] = np.arange(96) / 100.0  # sparsities that quantiles are kept for; in between: linear


class MagnitudeHistogram:
    """Counts |x| of one input of one layer."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, x: F32) -> None:
        bits = np.ascontiguousarray(x).view(np.uint32).reshape(-1) & np.uint32(0x7FFFFFFF)
        bins = np.clip((bits >> np.uint32(SHIFT)).astype(np.int64) - FIRST, 0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def quantiles(self) -> F32:
        """The magnitude below which each of LEVELS lies, [levels]; 0 at level 0. Inside a bin counts are taken as
        even."""
        edges = ((np.arange(BINS + 1) + FIRST).astype(np.uint32) << np.uint32(SHIFT)).view(np.float32).astype(float)
        below = np.concatenate([[0], np.cumsum(self.counts)])
        if not below[-1]:
            return np.zeros(len(LEVELS), np.float32)
        quantiles: F32 = np.interp(LEVELS * below[-1], below, edges).astype(np.float32)
        quantiles[0] = 0.0
        return quantiles


def at_level(quantiles: F32, sparsity: float) -> F32:
    """Thresholds [layers] of quantiles [layers, levels]."""
    return np.array([np.interp(sparsity, LEVELS, row) for row in quantiles], np.float32)
