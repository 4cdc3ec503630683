"""Every buffer that a step computes in, allocated once. f32, [chunk, size] unless said otherwise."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.linear_parts import (
    JOINED_NEURONS,
    KEY_BLOCK,
    MLP_PARTS,
    NEURON_BLOCK,
    attention_scratch_floats,
    joined_weights,
)
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Manifest

F32 = npt.NDArray[np.float32]


def _shapes(manifest: Manifest, chunk: int, threads: int, context: int) -> dict[str, tuple[int, ...]]:
    spec, layout = manifest.decoder, manifest.layout
    attention = attention_scratch_floats(spec.head_count // spec.kv_head_count, spec.head_size, context)
    return {
        "residual": (chunk, spec.hidden_size),
        "normed": (chunk, spec.hidden_size),
        "branch": (chunk, spec.hidden_size),
        "qkv": (chunk, spec.qkv_size),
        "attended": (chunk, spec.q_size),
        "sums": (MLP_PARTS, chunk if layout != "input-channel" else 0, spec.hidden_size),
        "neurons": (MLP_PARTS, 3 * max(NEURON_BLOCK, JOINED_NEURONS) * chunk if layout == "dense" else 0),
        "attention": (threads, attention),
        "logits": (1, spec.vocab_size),
        "ones": (KEY_BLOCK,),
        "joined": (threads, joined_weights(spec.hidden_size, max(spec.hidden_size, spec.q_size)) // 2),
    }


def _vector_floats(spec: DecoderSpec) -> int:
    """Norms and biases, as `load_vectors` keeps them."""
    hidden = spec.hidden_size
    biases = spec.qkv_size * spec.qkv_bias + hidden * spec.out_bias
    norms = hidden * (4 if spec.post_norms else 2) + 2 * spec.head_size * spec.qk_norm
    return spec.layer_count * (norms + biases) + hidden


def activation_bytes(manifest: Manifest, chunk: int, threads: int, context: int) -> int:
    """Bytes of all buffers, and of norms and biases kept as f32."""
    buffers = sum(int(np.prod(shape)) for shape in _shapes(manifest, chunk, threads, context).values())
    return 4 * (buffers + _vector_floats(manifest.decoder))


class Activations:
    def __init__(self, manifest: Manifest, chunk: int, threads: int, context: int) -> None:
        shapes = _shapes(manifest, chunk, threads, context)
        buffers = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self.residual: F32 = buffers["residual"]
        self.normed: F32 = buffers["normed"]
        self.branch: F32 = buffers["branch"]  # what attention or MLP add
        self.qkv: F32 = buffers["qkv"]
        self.attended: F32 = buffers["attended"]
        self.sums: F32 = buffers["sums"]  # of the down projection by neurons; zero between layers
        self.neurons: F32 = buffers["neurons"]  # gates, ups and their products, of one block of an extent per part
        self.attention: F32 = buffers["attention"]  # per thread
        self.logits: F32 = buffers["logits"]
        self.ones: F32 = buffers["ones"]
        self.ones.fill(1.0)
        self.joined: dict[str, npt.NDArray[np.generic]] = {  # rows of planes, for a batch: pairs of bf16, or f16
            "bf16": buffers["joined"].view(np.uint32),
            "f16": buffers["joined"].view(np.int16),
        }
