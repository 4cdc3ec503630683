"""GGUF metadata as the Hugging Face configuration that it came from, so that one reader understands both."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tidemill.storage.errors import UnsupportedModelError

ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
GEMMA3_PATTERN = 6  # every sixth layer is global; GGUF of this architecture does not store it
LLAMA3_ORIGINAL_CONTEXT = 8192


class GgufMetadata:
    """Typed look-ups in the key-value part of a GGUF file."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self.architecture = str(values.get("general.architecture"))

    def find(self, key: str) -> object | None:
        """A value by its key, with `%` for the architecture."""
        return self._values.get(key.replace("%", self.architecture))

    def get(self, key: str) -> object:
        value = self.find(key)
        if value is None:
            raise UnsupportedModelError(
                f"the GGUF file has no {key.replace('%', self.architecture)}; it cannot be converted"
            )
        return value


def read_gguf_config(metadata: GgufMetadata, *, vocab_size: int, tied: bool, qkv_bias: bool) -> dict[str, object]:
    """An equivalent `config.json`. Raises UnsupportedModelError for other architectures and rope scalings."""
    if metadata.architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"GGUF architecture {metadata.architecture!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    config: dict[str, object] = {
        "model_type": ARCHITECTURES[metadata.architecture],
        "vocab_size": vocab_size,
        "hidden_size": metadata.get("%.embedding_length"),
        "intermediate_size": metadata.get("%.feed_forward_length"),
        "num_hidden_layers": metadata.get("%.block_count"),
        "num_attention_heads": metadata.get("%.attention.head_count"),
        "num_key_value_heads": metadata.find("%.attention.head_count_kv"),
        "head_dim": metadata.find("%.attention.key_length"),
        "max_position_embeddings": metadata.get("%.context_length"),
        "rms_norm_eps": metadata.get("%.attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.find("%.rope.freq_base"),
        "rope_scaling": _scaling(metadata),
        "tie_word_embeddings": tied,
        "bos_token_id": metadata.find("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _eos_ids(metadata),
    }
    if metadata.architecture == "gemma3":
        config |= {
            "hidden_activation": "gelu_pytorch_tanh",
            "sliding_window": metadata.get("%.attention.sliding_window"),
            "sliding_window_pattern": GEMMA3_PATTERN,
            "query_pre_attn_scalar": metadata.find("%.attention.key_length"),
        }
    elif qkv_bias and metadata.architecture == "llama":
        config["attention_bias"] = True
    return {name: value for name, value in config.items() if value is not None}


def _scaling(metadata: GgufMetadata) -> dict[str, object] | None:
    kind = metadata.find("%.rope.scaling.type")
    if kind in (None, "none"):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": metadata.get("%.rope.scaling.factor")}
    raise UnsupportedModelError(f"rope scaling {kind!r} is not supported; supported: none, linear, Llama 3's")


def _eos_ids(metadata: GgufMetadata) -> list[object] | None:
    ids = [metadata.find(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    return [token for token in ids if token is not None] or None


def llama3_scaling(factors: npt.NDArray[np.float32], theta: float) -> dict[str, object]:
    """Llama 3's rope scaling, which GGUF stores as one divisor per frequency, as its parameters.

    Raises UnsupportedModelError when the divisors are not those of the published formula.
    """
    count = len(factors)
    frequencies = theta ** (-np.arange(count) / count)
    factor = round(float(factors.max()), 3)
    smooth = np.clip((LLAMA3_ORIGINAL_CONTEXT * frequencies / (2 * np.pi) - 1.0) / 3.0, 0.0, 1.0)
    expected = 1.0 / ((1 - smooth) / factor + smooth)
    if not np.allclose(expected, factors, rtol=1e-4):
        raise UnsupportedModelError(
            "rope_freqs.weight does not follow Llama 3's scaling; other forms are not supported"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": LLAMA3_ORIGINAL_CONTEXT,
    }
