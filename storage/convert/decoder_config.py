"""Reads a Hugging Face `config.json` into a DecoderSpec, or says what of it is not supported."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tidemill.storage.convert.config_values import ConfigReader
from tidemill.storage.decoder_spec import DecoderSpec, Family, Rope, RopeScaling
from tidemill.storage.errors import UnsupportedModelError

SUPPORTED = (
    "llama (Llama 2/3, SmolLM2), mistral, qwen2 (Qwen2, Qwen2.5), qwen3, gemma3_text, in bf16, f16 or f32, or GGUF "
    "of these "
    "architectures"
)
FAMILIES: Mapping[str, Family] = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh"}


class _Ropes(NamedTuple):
    all: Rope
    local: Rope | None


def read_decoder_spec(
    config: Mapping[str, object], generation_config: Mapping[str, object] | None = None
) -> DecoderSpec:
    """Raises UnsupportedModelError naming the field, its value and what is supported."""
    reader = ConfigReader(config)
    model_type = reader.text("model_type")
    if model_type == "gemma3" and isinstance(config.get("text_config"), Mapping):
        raise UnsupportedModelError(
            "model_type 'gemma3' is the multimodal checkpoint; only its text model is supported: convert a "
            "gemma3_text checkpoint"
        )
    if model_type not in FAMILIES:
        raise UnsupportedModelError(f"model_type {model_type!r} is not supported. Supported: {SUPPORTED}")
    family = FAMILIES[model_type]
    _refuse_unsupported(config)
    hidden_size, head_count = reader.count("hidden_size"), reader.count("num_attention_heads")
    layer_count = reader.count("num_hidden_layers")
    head_size = reader.count("head_dim", hidden_size // head_count)
    activation = reader.text("hidden_activation" if family == "gemma3" else "hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(f"activation {activation!r} is not supported; supported: {', '.join(ACTIVATIONS)}")
    gemma = family == "gemma3"
    ropes = _ropes(reader, family)
    scale_base = reader.number("query_pre_attn_scalar", float(head_size)) if gemma else float(head_size)
    return DecoderSpec(
        family=family,
        vocab_size=reader.count("vocab_size"),
        hidden_size=hidden_size,
        layer_count=layer_count,
        head_count=head_count,
        kv_head_count=reader.count("num_key_value_heads", head_count),
        head_size=head_size,
        ff_size=reader.count("intermediate_size"),
        activation="gelu_tanh" if ACTIVATIONS[activation] == "gelu_tanh" else "silu",
        norm_eps=reader.number("rms_norm_eps", 1e-6),
        norm_weight_offset=1.0 if gemma else 0.0,
        embed_scale=hidden_size**0.5 if gemma else 1.0,
        attention_scale=scale_base**-0.5,
        qkv_bias=family == "qwen2" or reader.flag("attention_bias", False),
        out_bias=family in ("llama", "qwen3") and reader.flag("attention_bias", False),
        qk_norm=family in ("qwen3", "gemma3"),
        post_norms=gemma,
        rope=ropes.all,
        local_rope=ropes.local,
        windows=_windows(reader, family, layer_count),
        tied_head=reader.flag("tie_word_embeddings", gemma),
        max_context=reader.count("max_position_embeddings"),
        bos_token_id=reader.find_count("bos_token_id"),
        eos_token_ids=_eos_ids(config, generation_config),
    )


def _refuse_unsupported(config: Mapping[str, object]) -> None:
    for name in (
        "mlp_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "quantization_config",
        "use_bidirectional_attention",
    ):
        if config.get(name):
            raise UnsupportedModelError(f"{name} = {config[name]!r} is not supported. Supported: {SUPPORTED}")
    if float(str(config.get("partial_rotary_factor") or 1.0)) != 1.0:
        raise UnsupportedModelError(f"partial_rotary_factor = {config['partial_rotary_factor']!r} is not supported")


def _ropes(reader: ConfigReader, family: Family) -> _Ropes:
    """Old configs have rope_theta and rope_scaling, new ones rope_parameters (for Gemma 3 one per kind of layer)."""
    parameters = reader.find_mapping("rope_parameters")
    theta = reader.number("rope_theta", 1e6 if family == "gemma3" else 1e4)
    if parameters is not None and "full_attention" in parameters:
        nested = ConfigReader(parameters)
        full, local = nested.find_mapping("full_attention"), nested.find_mapping("sliding_attention")
        return _Ropes(_rope(full or {}, 1e6), _rope(local or {}, 1e4))
    if parameters is not None:
        return _Ropes(_rope(parameters, theta), None)
    scaling = reader.find_mapping("rope_scaling") or {}
    rope = _rope({**scaling, "rope_theta": theta}, theta)
    local_theta = reader.number("rope_local_base_freq", 1e4)
    return _Ropes(rope, Rope(theta=local_theta) if family == "gemma3" else None)


def _rope(parameters: Mapping[str, object], theta: float) -> Rope:
    reader = ConfigReader(parameters)
    theta = reader.number("rope_theta", theta)
    kind = reader.text("rope_type", reader.text("type", "default"))
    match kind:
        case "default":
            return Rope(theta=theta)
        case "linear":
            return Rope(theta=theta, scaling=RopeScaling("linear", reader.number("factor")))
        case "llama3":
            scaling = RopeScaling(
                "llama3",
                reader.number("factor"),
                reader.number("low_freq_factor"),
                reader.number("high_freq_factor"),
                reader.count("original_max_position_embeddings"),
            )
            return Rope(theta=theta, scaling=scaling)
        case _:
            raise UnsupportedModelError(f"rope_type {kind!r} is not supported; supported: default, linear, llama3")


def _windows(reader: ConfigReader, family: Family, layer_count: int) -> tuple[int, ...]:
    """Per layer: positions seen, 0 for all."""
    window = reader.find_count("sliding_window") or 0
    if family in ("qwen2", "qwen3") and not reader.flag("use_sliding_window", False):
        window = 0
    if family == "llama" or window == 0:
        return (0,) * layer_count
    kinds = reader.find_list("layer_types")
    if kinds is None:
        kinds = _layer_types(reader, family, layer_count)
    if len(kinds) != layer_count or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise UnsupportedModelError(
            f"layer_types {sorted(map(str, set(kinds)))} of {len(kinds)} layers; supported are sliding_attention "
            "and full_attention, "
            f"one for each of {layer_count} layers"
        )
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _layer_types(reader: ConfigReader, family: Family, layer_count: int) -> Sequence[object]:
    """What configs from before `layer_types` mean."""
    layers = range(layer_count)
    if family == "gemma3":
        pattern = reader.count("sliding_window_pattern", reader.count("_sliding_window_pattern", 6))
        return ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in layers]
    if family in ("qwen2", "qwen3"):
        first = reader.count("max_window_layers", 28)
        return ["sliding_attention" if i >= first else "full_attention" for i in layers]
    return ["sliding_attention"] * layer_count


def _eos_ids(config: Mapping[str, object], generation_config: Mapping[str, object] | None) -> tuple[int, ...]:
    for source in (generation_config or {}, config):
        ids = source.get("eos_token_id")
        if isinstance(ids, int):
            return (ids,)
        if isinstance(ids, list) and all(isinstance(i, int) for i in ids):
            return tuple(ids)
    return ()
