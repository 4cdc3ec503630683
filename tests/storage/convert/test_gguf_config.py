import numpy as np
import pytest

from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.convert.gguf_config import GgufMetadata, llama3_scaling, read_gguf_config
from tidemill.storage.decoder_spec import DecoderSpec, Rope, RopeScaling
from tidemill.storage.errors import SourceError, UnsupportedModelError


def metadata(architecture: str = "llama", **changes: object) -> GgufMetadata:
    """`__` in a name stands for a dot; names without one are of the architecture."""
    values: dict[str, object] = {
        "embedding_length": 64,
        "feed_forward_length": 96,
        "block_count": 7,
        "context_length": 128,
        "attention__head_count": 4,
        "attention__layer_norm_rms_epsilon": 1e-5,
        "attention__sliding_window": 16 if architecture == "gemma3" else None,
        **changes,
    }
    named = {
        name.replace("__", ".") if name.startswith("tokenizer") else f"{architecture}.{name.replace('__', '.')}": value
        for name, value in values.items()
    }
    return GgufMetadata({"general.architecture": architecture, **named})


def spec_of(architecture: str = "llama", *, qkv_bias: bool = False, **changes: object) -> DecoderSpec:
    config = read_gguf_config(metadata(architecture, **changes), vocab_size=90, tied=True, qkv_bias=qkv_bias)
    return read_decoder_spec(config)


def test_mistral_is_known_by_its_window() -> None:
    assert spec_of().family == "llama"
    spec = spec_of(attention__sliding_window=32)
    assert (spec.family, spec.windows) == ("mistral", (32,) * 7)


def test_heads_without_kv_count_or_size_are_those_of_full_attention() -> None:
    spec = spec_of("qwen3")
    assert (spec.kv_head_count, spec.head_size) == (4, 16)
    assert spec_of(attention__head_count_kv=[2] * 7).kv_head_count == 2


def test_gemma3_scales_attention_by_its_head_size_but_for_the_27b() -> None:
    sizes: dict[str, object] = {"attention__key_length": 32, "attention__value_length": 32}
    assert spec_of("gemma3", **sizes).attention_scale == 32**-0.5
    assert spec_of("gemma3", **sizes, block_count=62).attention_scale == 16**-0.5


def test_gemma3_stretches_global_rope_only() -> None:
    scaling: dict[str, object] = {"rope__scaling__type": "linear", "rope__scaling__factor": 8.0}
    spec = spec_of("gemma3", rope__freq_base=1e6, **scaling)
    assert spec.rope == Rope(1e6, RopeScaling("linear", 8.0))
    assert spec.local_rope == Rope(1e4)
    assert spec.windows == (16, 16, 16, 16, 16, 0, 16)
    assert spec_of("gemma3", rope__freq_base_swa=5e4).local_rope == Rope(5e4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expert_count": 8}, "llama.expert_count = 8"),
        ({"rope__dimension_count": 8}, "llama.rope.dimension_count = 8.*the head's 16"),
        ({"attention__value_length": 32}, "value_length = 32"),
        ({"attention__head_count_kv": [2, 4]}, "head_count_kv.*one whole number above 0 for all layers"),
        ({"attention__head_count": 0}, "head_count = 0"),
        ({"embedding_length": None}, "no llama.embedding_length"),
        ({"rope__scaling__type": "yarn"}, "'yarn' is not supported"),
        ({"attention__layer_norm_rms_epsilon": "x"}, "rms_norm_eps"),
    ],
)
def test_what_another_decoder_would_need_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        spec_of(**changes)


def test_a_turn_ends_at_eos_eot_and_the_tokens_known_for_it() -> None:
    tokens = ["<bos>", "<eos>", "<end_of_turn>", "<|im_end|>"]
    config: dict[str, object] = {"tokenizer__ggml__tokens": tokens, "tokenizer__ggml__eos_token_id": 1}
    assert spec_of(**config, tokenizer__ggml__token_type=[3, 3, 3, 1]).eos_token_ids == (1, 2)
    both = spec_of(**config, tokenizer__ggml__token_type=[3, 3, 4, 3], tokenizer__ggml__eot_token_id=3)
    assert both.eos_token_ids == (1, 3, 2)
    with pytest.raises(SourceError, match=r"eos_token_id = 90, expected 0\.\.89"):
        spec_of(tokenizer__ggml__eos_token_id=90)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_is_recognised_from_its_divisors(factor: float) -> None:
    wavelengths = 2 * np.pi * 500000.0 ** (np.arange(0, 64, 2) / 64)
    smooth = (8192 / wavelengths - 1.0) / 3.0
    blended = 1 / ((1 - smooth) / factor + smooth)
    divisors = np.where(wavelengths < 2048, 1.0, np.where(wavelengths > 8192, factor, blended)).astype(np.float32)
    scaling = llama3_scaling(divisors, 500000.0)
    assert (scaling["factor"], scaling["original_max_position_embeddings"]) == (factor, 8192)
    for broken in (divisors * 1.01, np.zeros_like(divisors), np.full_like(divisors, np.nan)):
        with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight"):
            llama3_scaling(broken, 500000.0)
