"""GGUF metadata as the Hugging Face configuration that it came from, so that one reader understands both."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.storage.errors import SourceError, UnsupportedModelError

ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
GEMMA3_PATTERN = 6  # every sixth layer is global; GGUF of this architecture does not store it
GEMMA3_27B_LAYERS = 62  # that size alone scales attention by hidden_size / heads instead of the head size
LLAMA3_ORIGINAL_CONTEXT = 8192
END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")  # what ends an answer of a chat model, whatever `eos` says


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

    def get_size(self, key: str) -> int:
        """A whole number above 0; a list of equal ones, as some files hold one per layer, counts as one."""
        value = self.get(key)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise UnsupportedModelError(
                f"the GGUF file has {key.replace('%', self.architecture)} = {value!r:.200}, expected one whole number "
                "above 0 for all layers"
            )
        return value

    def find_size(self, key: str, default: int) -> int:
        return default if self.find(key) is None else self.get_size(key)

    def find_token(self, name: str, count: int) -> int | None:
        """A token id such as `bos` of a vocabulary of `count`; SourceError when it lies outside."""
        token = self.find(f"tokenizer.ggml.{name}_token_id")
        if token is None or (isinstance(token, int) and 0 <= token < count):
            return token
        raise SourceError(f"tokenizer.ggml.{name}_token_id = {token!r:.200}, expected 0..{count - 1}; it is damaged")


def read_gguf_config(metadata: GgufMetadata, *, vocab_size: int, tied: bool, qkv_bias: bool) -> dict[str, object]:
    """An equivalent `config.json`. Raises UnsupportedModelError for other architectures and rope scalings."""
    _refuse_unsupported(metadata)
    hidden_size, heads = metadata.get_size("%.embedding_length"), metadata.get_size("%.attention.head_count")
    head_size = metadata.find_size("%.attention.key_length", hidden_size // heads)
    config: dict[str, object] = {
        "model_type": ARCHITECTURES[metadata.architecture],
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": metadata.get_size("%.feed_forward_length"),
        "num_hidden_layers": metadata.get_size("%.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.find_size("%.attention.head_count_kv", heads),
        "head_dim": head_size,
        "max_position_embeddings": metadata.get_size("%.context_length"),
        "rms_norm_eps": metadata.get("%.attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.find("%.rope.freq_base") or 1e4,
        "rope_scaling": _scaling(metadata),
        "tie_word_embeddings": tied,
        "bos_token_id": metadata.find_token("bos", vocab_size),
        "eos_token_id": _eos_ids(metadata, vocab_size),
    }
    _check_rotation(metadata, head_size)
    if metadata.architecture == "gemma3":
        config |= _gemma3(metadata, config)
    elif metadata.architecture == "llama":
        config |= _llama(metadata, qkv_bias)
    return {name: value for name, value in config.items() if value is not None}


def _refuse_unsupported(metadata: GgufMetadata) -> None:
    if metadata.architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"GGUF architecture {metadata.architecture!r:.200} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    for key in ("%.expert_count", "%.attn_logit_softcapping", "%.final_logit_softcapping"):
        if metadata.find(key):
            name = key.replace("%", metadata.architecture)
            raise UnsupportedModelError(f"GGUF with {name} = {metadata.find(key)!r:.200} is not supported")


def _check_rotation(metadata: GgufMetadata, head_size: int) -> None:
    for key in ("%.rope.dimension_count", "%.attention.value_length"):
        size = metadata.find_size(key, head_size)
        if size != head_size:
            name = key.replace("%", metadata.architecture)
            raise UnsupportedModelError(
                f"GGUF with {name} = {size} is not supported; it has to be the head's {head_size}"
            )


def _llama(metadata: GgufMetadata, qkv_bias: bool) -> dict[str, object]:
    """Mistral is of architecture `llama` in GGUF; what tells them apart is the window."""
    window = metadata.find("%.attention.sliding_window")
    if window:
        return {"model_type": "mistral", "sliding_window": window}
    return {"attention_bias": True} if qkv_bias else {}


def _gemma3(metadata: GgufMetadata, config: Mapping[str, object]) -> dict[str, object]:
    wide = config["num_hidden_layers"] == GEMMA3_27B_LAYERS
    per_head = metadata.get_size("%.embedding_length") / metadata.get_size("%.attention.head_count")
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": metadata.get_size("%.attention.sliding_window"),
        "sliding_window_pattern": GEMMA3_PATTERN,
        "rope_local_base_freq": metadata.find("%.rope.freq_base_swa") or 1e4,
        "query_pre_attn_scalar": per_head if wide else config["head_dim"],
    }


def _scaling(metadata: GgufMetadata) -> dict[str, object] | None:
    kind = metadata.find("%.rope.scaling.type")
    if kind in (None, "none"):
        factor = metadata.find("%.rope.scale_linear")  # how files from 2023 say it
        return {"rope_type": "linear", "factor": factor} if factor not in (None, 1.0) else None
    if kind == "linear":
        return {"rope_type": "linear", "factor": metadata.get("%.rope.scaling.factor")}
    raise UnsupportedModelError(f"rope scaling {kind!r:.200} is not supported; supported: none, linear, Llama 3's")


def _eos_ids(metadata: GgufMetadata, vocab_size: int) -> list[int] | None:
    """`eos`, `eot`, and the tokens that are known to end a turn: many files of chat models name only one of them."""
    ids = [metadata.find_token(name, vocab_size) for name in ("eos", "eot")]
    tokens, kinds = metadata.find("tokenizer.ggml.tokens"), metadata.find("tokenizer.ggml.token_type")
    if isinstance(tokens, list) and isinstance(kinds, list):
        ids += _end_of_turn(tokens, kinds)
    return list(dict.fromkeys(token for token in ids if token is not None)) or None


def _end_of_turn(tokens: Sequence[object], kinds: Sequence[object]) -> list[int]:
    normal = 1  # a token of plain text that looks the same is none
    return [
        i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=False)) if token in END_OF_TURN and kind != normal
    ]


def llama3_scaling(factors: npt.NDArray[np.float32], theta: float) -> dict[str, object]:
    """Llama 3's rope scaling, which GGUF stores as one divisor per frequency, as its parameters.

    Raises UnsupportedModelError when the divisors are not those of the published formula.
    """
    count = len(factors)
    frequencies = theta ** (-np.arange(count) / count)
    factor = round(float(factors.max()), 3)
    smooth = np.clip((LLAMA3_ORIGINAL_CONTEXT * frequencies / (2 * np.pi) - 1.0) / 3.0, 0.0, 1.0)
    if not factor > 0 or not np.allclose(1.0 / ((1 - smooth) / factor + smooth), factors, rtol=1e-4):
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
