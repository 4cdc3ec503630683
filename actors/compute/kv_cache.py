"""Keys and values of the one sequence, f32, allocated once for the whole context."""

import numpy as np
import numpy.typing as npt

from tidemill.storage.decoder_spec import DecoderSpec


def kv_cache_bytes(spec: DecoderSpec, context: int) -> int:
    """Bytes of a cache of `context` positions: keys and values of every layer."""
    return 2 * spec.layer_count * spec.kv_size * context * 4


class KVCache:
    """`keys[layer]` and `values[layer]` are f32 [kv_heads, context, head_size]: a head's positions lie in a row, as
    attention reads them. Pages are touched, and so exist, only as positions are written."""

    def __init__(self, spec: DecoderSpec, context: int) -> None:
        shape = (spec.layer_count, spec.kv_head_count, context, spec.head_size)
        self.keys: npt.NDArray[np.float32] = np.zeros(shape, np.float32)
        self.values: npt.NDArray[np.float32] = np.zeros(shape, np.float32)
