"""Rotary frequencies (RoFormer, section 3.2.2) and their stretched forms."""

import math

import numpy as np
import numpy.typing as npt

from tidemill.storage.decoder_spec import Rope, RopeScaling

F32 = npt.NDArray[np.float32]


def inverse_frequencies(rope: Rope, head_size: int) -> F32:
    """theta ** (-2i / head_size) for i < head_size / 2, scaled; f32 [head_size / 2]."""
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequencies = (np.float32(1.0) / np.float32(rope.theta) ** exponents).astype(np.float32)
    if rope.scaling is None:
        return frequencies
    if rope.scaling.kind == "linear":
        return frequencies / np.float32(rope.scaling.factor)
    return _stretch_long_waves(frequencies, rope.scaling)


def _stretch_long_waves(frequencies: F32, scaling: RopeScaling) -> F32:
    """Llama 3.1: wavelengths above original_context / low_freq_factor are divided by `factor`, those below
    original_context / high_freq_factor are kept, those between are interpolated."""
    wavelengths = 2 * math.pi / frequencies
    smooth = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    smooth = np.clip(smooth, 0.0, 1.0)
    stretched = (1 - smooth) * frequencies / scaling.factor + smooth * frequencies
    return stretched.astype(np.float32)


def angles(frequencies: F32, start: int, count: int) -> tuple[F32, F32]:
    """Cosines and sines of positions start .. start + count; each f32 [count, head_size / 2]."""
    positions = np.arange(start, start + count, dtype=np.float32)
    phases = np.outer(positions, frequencies).astype(np.float32)
    return np.cos(phases), np.sin(phases)
