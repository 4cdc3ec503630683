import json
from pathlib import Path

import pytest
import transformers

from tests.fakes.checkpoints import configurations
from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.errors import UnsupportedModelError

BASE: dict[str, object] = {
    "model_type": "llama",
    "vocab_size": 90,
    "hidden_size": 64,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 0),
        ("num_hidden_layers", 10**15),
        ("num_hidden_layers", 5000),
        ("hidden_size", -64),
        ("hidden_size", [64]),
        ("hidden_size", True),
        ("num_key_value_heads", 3),
        ("head_dim", 3),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", 0),
        ("partial_rotary_factor", "x"),
        ("partial_rotary_factor", 0.5),
        ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("rope_parameters", {"rope_type": "linear", "factor": 0}),
        ("rope_parameters", {**LLAMA3, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
        ("rope_theta", float("inf")),
        ("eos_token_id", ["a"]),
        ("eos_token_id", -1),
        ("bos_token_id", 1 << 40),
        ("hidden_act", "x" * 100_000),
        ("num_local_experts", 8),
        ("model_type", "gemma3"),
        ("model_type", None),
        ("model_type", "x" * 100_000),
        ("num_attention_heads", 65),
    ],
)
def test_a_value_that_cannot_be_computed_with_is_refused_by_name(field: str, value: object) -> None:
    names = {
        "num_key_value_heads": "num_key_value_heads",
        "rope_parameters": "factor",
        "num_attention_heads": "num_attention_heads|head_dim",
    }
    with pytest.raises(UnsupportedModelError, match=names.get(field, field)) as caught:
        read_decoder_spec({**BASE, field: value})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kinds", [["sliding_attention"] * 3, ["chunked_attention"] * 7, [{}] * 7])
def test_layer_types_that_do_not_fit_are_refused(kinds: list[object]) -> None:
    config = {**BASE, "model_type": "gemma3_text", "head_dim": 16, "layer_types": kinds}
    with pytest.raises(UnsupportedModelError, match="layer_types"):
        read_decoder_spec(config)


@pytest.mark.parametrize("name", list(configurations()))
def test_what_a_saved_configuration_leaves_out_is_what_transformers_assumes(name: str) -> None:
    config = configurations()[name]
    whole = read_decoder_spec(config.to_dict())
    for field in ("sliding_window", "query_pre_attn_scalar", "hidden_activation", "tie_word_embeddings", "hidden_act"):
        partial = {key: value for key, value in config.to_dict().items() if key != field}
        expected = read_decoder_spec(type(config)(**partial).to_dict())
        assert read_decoder_spec(partial) == expected
    assert whole.windows == tuple(config_windows(config, whole.layer_count))


def config_windows(config: transformers.PretrainedConfig, layers: int) -> list[int]:
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = getattr(config, "sliding_window", None) or 0
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_attention_bias_is_one_of_the_output_too(family: str) -> None:
    spec = read_decoder_spec({**BASE, "model_type": family, "head_dim": 16, "attention_bias": True})
    assert (spec.qkv_bias, spec.out_bias) == (True, True)


def test_mistral_has_no_biases_whatever_its_configuration_says() -> None:
    spec = read_decoder_spec({**BASE, "model_type": "mistral", "attention_bias": True})
    assert (spec.qkv_bias, spec.out_bias) == (False, False)


def test_a_window_that_is_null_is_none_and_one_that_is_not_mentioned_is_the_familys() -> None:
    mistral = {**BASE, "model_type": "mistral"}
    assert read_decoder_spec({**mistral, "sliding_window": None}).windows == (0,) * 7
    assert read_decoder_spec(mistral).windows == (4096,) * 7
    qwen = {**BASE, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}
    assert read_decoder_spec(qwen).windows == (16,) * 7


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({"eos_token_id": 2}, None, (2,)),
        ({"eos_token_id": 2}, {"eos_token_id": [7, 8, 7]}, (7, 8)),
        ({"eos_token_id": [2, 3]}, {}, (2, 3)),
        ({}, {"eos_token_id": 5}, (5,)),
        ({"eos_token_id": None}, {"eos_token_id": None}, ()),
    ],
)
def test_eos_comes_from_the_generation_configuration_first(
    config: dict[str, object], generation: dict[str, object] | None, expected: tuple[int, ...]
) -> None:
    assert read_decoder_spec({**BASE, **config}, generation).eos_token_ids == expected


def test_token_ids_outside_the_vocabulary_are_left_out() -> None:
    """Some configurations name tokens that the embedding has no row for; a manifest may not."""
    size = read_decoder_spec(BASE).vocab_size
    spec = read_decoder_spec({**BASE, "bos_token_id": size}, {"eos_token_id": [size + 7, 2, size - 1]})
    assert spec.bos_token_id is None
    assert spec.eos_token_ids == (2, size - 1)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model_type", "mamba", "'mamba' is not supported. Supported: llama"),
        ("mlp_bias", True, "mlp_bias = True is not supported"),
        ("hidden_act", "relu", "'relu' is not supported"),
        ("hidden_size", "64", "hidden_size = '64', expected a whole number"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 2.0}, "'yarn' is not supported"),
        ("quantization_config", {"bits": 4}, "quantization_config"),
        ("final_logit_softcapping", 30.0, "final_logit_softcapping"),
    ],
)
def test_an_unsupported_configuration_names_field_and_value(
    checkpoint: Path, field: str, value: object, says: str
) -> None:
    config = {**json.loads((checkpoint / "config.json").read_bytes()), field: value}
    with pytest.raises(UnsupportedModelError, match=says):
        read_decoder_spec(config)


def test_old_and_new_forms_of_rope_are_read_alike() -> None:
    base = {
        "model_type": "llama",
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 9,
        "max_position_embeddings": 9,
    }
    values = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    old = read_decoder_spec({**base, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **values}})
    new = read_decoder_spec({**base, "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **values}})
    assert old == new
    gemma = {
        **base,
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4,
        "num_hidden_layers": 7,
    }
    spec = read_decoder_spec({**gemma, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6})
    assert spec.windows == (4, 4, 4, 4, 4, 0, 4)
    assert spec.rope_of(5).theta == 1e6
    assert spec.rope_of(0).theta == 1e4
