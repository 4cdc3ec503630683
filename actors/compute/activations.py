"""Every buffer that a step computes in, allocated once. f32, [chunk, size] unless said otherwise."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
from tidemill.storage.decoder_spec import DecoderSpec

F32 = npt.NDArray[np.float32]


def activation_bytes(spec: DecoderSpec, chunk: int, threads: int, context: int) -> int:
    """Bytes of all buffers, and of norms and biases kept as f32."""
    per_position = 3 * spec.hidden_size + spec.qkv_size + spec.q_size + MLP_PARTS * spec.hidden_size
    vectors = spec.layer_count * (4 * spec.hidden_size + spec.qkv_size + spec.hidden_size + 2 * spec.head_size)
    return 4 * (chunk * per_position + threads * context + spec.vocab_size + vectors + spec.hidden_size)


class Activations:
    def __init__(self, spec: DecoderSpec, chunk: int, threads: int, context: int) -> None:
        def buffer(*shape: int) -> F32:
            return np.zeros(shape, np.float32)

        self.residual = buffer(chunk, spec.hidden_size)
        self.normed = buffer(chunk, spec.hidden_size)
        self.branch = buffer(chunk, spec.hidden_size)  # what attention or MLP add
        self.qkv = buffer(chunk, spec.qkv_size)
        self.attended = buffer(chunk, spec.q_size)
        self.sums = buffer(MLP_PARTS, chunk, spec.hidden_size)
        self.scores = buffer(threads, context)
        self.logits = buffer(1, spec.vocab_size)
