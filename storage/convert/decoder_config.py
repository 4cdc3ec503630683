"""Reads a Hugging Face `config.json` into a DecoderSpec, or says what of it is not supported."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tidemill.storage.convert.config_values import ConfigReader
from tidemill.storage.decoder_rules import LAYERS_MAX
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
ACTIVATIONS: Mapping[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
# What transformers assumes of a field that a configuration does not mention; a field that is null is another matter.
# Only what the tensors' shapes would not tell.
UNMENTIONED: Mapping[Family, Mapping[str, object]] = {
    "llama": {},
    "mistral": {"sliding_window": 4096},
    "qwen2": {"sliding_window": 4096},
    "qwen3": {"sliding_window": 4096, "head_dim": 128},
    "gemma3": {
        "sliding_window": 4096,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
        "hidden_activation": "gelu_pytorch_tanh",
    },
}
REFUSED = (
    "mlp_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "quantization_config",
    "use_bidirectional_attention",
    "num_local_experts",
)


class _Ropes(NamedTuple):
    all: Rope
    local: Rope | None


def read_decoder_spec(
    config: Mapping[str, object], generation_config: Mapping[str, object] | None = None
) -> DecoderSpec:
    """Raises UnsupportedModelError naming the field, its value and what is supported."""
    family = _family(config)
    reader = ConfigReader({**UNMENTIONED[family], **config})
    _refuse_unsupported(config, reader)
    hidden_size, head_count = reader.count("hidden_size"), reader.count("num_attention_heads")
    layer_count = _layer_count(reader)
    head_size = reader.count("head_dim", hidden_size // head_count)
    gemma = family == "gemma3"
    attention_bias = family in ("llama", "qwen3", "gemma3") and reader.flag("attention_bias", False)
    ropes = _ropes(reader, family)
    _check_heads(head_count, reader.count("num_key_value_heads", head_count), head_size)
    return DecoderSpec(
        family=family,
        vocab_size=reader.count("vocab_size"),
        hidden_size=hidden_size,
        layer_count=layer_count,
        head_count=head_count,
        kv_head_count=reader.count("num_key_value_heads", head_count),
        head_size=head_size,
        ff_size=reader.count("intermediate_size"),
        activation=_activation(reader, "hidden_activation" if gemma else "hidden_act"),
        norm_eps=reader.number("rms_norm_eps", 1e-6),
        norm_weight_offset=1.0 if gemma else 0.0,
        embed_scale=hidden_size**0.5 if gemma else 1.0,
        attention_scale=(reader.number("query_pre_attn_scalar") if gemma else head_size) ** -0.5,
        qkv_bias=family == "qwen2" or attention_bias,
        out_bias=attention_bias,
        qk_norm=family in ("qwen3", "gemma3"),
        post_norms=gemma,
        rope=ropes.all,
        local_rope=ropes.local,
        windows=_windows(reader, family, layer_count),
        tied_head=reader.flag("tie_word_embeddings", False),
        max_context=reader.count("max_position_embeddings"),
        bos_token_id=next(iter(_known(reader.find_ids("bos_token_id"), reader)), None),
        eos_token_ids=_known(_eos_ids(reader, generation_config), reader),
    )


def _layer_count(reader: ConfigReader) -> int:
    count = reader.count("num_hidden_layers")
    if count > LAYERS_MAX:
        raise UnsupportedModelError(f"num_hidden_layers = {count}, expected at most {LAYERS_MAX}")
    return count


def _family(config: Mapping[str, object]) -> Family:
    model_type = ConfigReader(config).text("model_type")
    if model_type == "gemma3":
        raise UnsupportedModelError(
            "model_type 'gemma3' is the multimodal checkpoint; only its text model is supported: convert a "
            "gemma3_text checkpoint, or a GGUF file of the text model"
        )
    if model_type not in FAMILIES:
        raise UnsupportedModelError(f"model_type {model_type!r:.200} is not supported. Supported: {SUPPORTED}")
    return FAMILIES[model_type]


def _refuse_unsupported(config: Mapping[str, object], reader: ConfigReader) -> None:
    for name in REFUSED:
        if config.get(name):
            raise UnsupportedModelError(f"{name} = {config[name]!r:.200} is not supported. Supported: {SUPPORTED}")
    if reader.number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModelError(f"partial_rotary_factor = {config['partial_rotary_factor']!r} is not supported")


def _activation(reader: ConfigReader, field: str) -> Literal["silu", "gelu_tanh"]:
    name = reader.text(field, "silu")
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"activation {field} = {name!r:.200} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _check_heads(heads: int, kv_heads: int, head_size: int) -> None:
    """What a reader of the converted model would refuse is refused before hours of conversion."""
    if heads % kv_heads:
        raise UnsupportedModelError(f"num_attention_heads = {heads} is no multiple of num_key_value_heads = {kv_heads}")
    if head_size == 0 or head_size % 2:
        raise UnsupportedModelError(f"head_dim = {head_size}; rotary embedding needs an even number above 0")


def _ropes(reader: ConfigReader, family: Family) -> _Ropes:
    """Old configs have rope_theta and rope_scaling, new ones rope_parameters (for Gemma 3 one per kind of layer)."""
    parameters = reader.find_mapping("rope_parameters")
    theta = reader.number("rope_theta", 1e6 if family == "gemma3" else 1e4)
    if parameters is not None and "full_attention" in parameters:
        nested = ConfigReader(parameters)
        full, local = nested.find_mapping("full_attention"), nested.find_mapping("sliding_attention")
        return _Ropes(_rope(full or {}, theta), _rope(local or {}, reader.number("rope_local_base_freq", 1e4)))
    if parameters is not None:
        return _Ropes(_rope(parameters, theta), None)
    scaling = reader.find_mapping("rope_scaling") or {}
    rope = _rope({**scaling, "rope_theta": theta}, theta)
    local_theta = reader.number("rope_local_base_freq", 1e4)
    return _Ropes(rope, Rope(theta=local_theta) if family == "gemma3" else None)


def _rope(parameters: Mapping[str, object], theta: float) -> Rope:
    reader = ConfigReader(parameters)
    theta = reader.number("rope_theta", theta)
    if reader.number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModelError(f"rope partial_rotary_factor = {parameters['partial_rotary_factor']!r:.200}, not 1")
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
            if scaling.low_freq_factor >= scaling.high_freq_factor:
                raise UnsupportedModelError(
                    f"rope low_freq_factor = {scaling.low_freq_factor}, expected less than high_freq_factor = "
                    f"{scaling.high_freq_factor}"
                )
            return Rope(theta=theta, scaling=scaling)
        case _:
            raise UnsupportedModelError(f"rope_type {kind!r:.200} is not supported; supported: default, linear, llama3")


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
    if len(kinds) != layer_count or not all(kind in ("sliding_attention", "full_attention") for kind in kinds):
        raise UnsupportedModelError(
            f"layer_types has {len(kinds)} entries {str(kinds)[:200]}; supported are sliding_attention and "
            f"full_attention, one for each of {layer_count} layers"
        )
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _layer_types(reader: ConfigReader, family: Family, layer_count: int) -> Sequence[object]:
    """What configs from before `layer_types` mean."""
    layers = range(layer_count)
    if family == "gemma3":
        pattern = reader.count("sliding_window_pattern", reader.count("_sliding_window_pattern", 6))
        return ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in layers]
    if family in ("qwen2", "qwen3"):
        first = reader.find_count("max_window_layers")
        first = 28 if first is None else first
        return ["sliding_attention" if i >= first else "full_attention" for i in layers]
    return ["sliding_attention"] * layer_count


def _eos_ids(reader: ConfigReader, generation_config: Mapping[str, object] | None) -> tuple[int, ...]:
    ids = ConfigReader(generation_config or {}).find_ids("eos_token_id")
    return ids if ids is not None else reader.find_ids("eos_token_id") or ()


def _known(ids: Sequence[int] | None, reader: ConfigReader) -> tuple[int, ...]:
    """Without the ids outside the vocabulary, which some configurations name: the decoder can neither take nor give
    them."""
    vocab_size = reader.count("vocab_size")
    return tuple(token for token in ids or () if token < vocab_size)
