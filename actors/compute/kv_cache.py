"""Keys and values of the one sequence, f32, allocated once for the whole context. What lies how:
kernels/attention.py."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.linear_parts import KEY_BLOCK
from tidemill.storage.decoder_spec import DecoderSpec


def _blocks(context: int) -> int:
    return -(-context // KEY_BLOCK)


def kv_cache_bytes(spec: DecoderSpec, context: int) -> int:
    """Bytes of a cache of `context` positions, rounded up to whole key blocks: keys and values of every layer."""
    return 2 * spec.layer_count * spec.kv_size * _blocks(context) * KEY_BLOCK * 4


class KVCache:
    """`keys[layer]` is f32 [kv_heads, blocks, head_size, KEY_BLOCK] and `values[layer]` f32 [kv_heads, positions,
    head_size]. Pages are touched, and so exist, only as positions are written."""

    def __init__(self, spec: DecoderSpec, context: int) -> None:
        layers, heads, blocks, size = spec.layer_count, spec.kv_head_count, _blocks(context), spec.head_size
        self.keys: npt.NDArray[np.float32] = np.zeros((layers, heads, blocks, size, KEY_BLOCK), np.float32)
        self.values: npt.NDArray[np.float32] = np.zeros((layers, heads, blocks * KEY_BLOCK, size), np.float32)
