"""What a DecoderSpec in a manifest must be like, so that it can be computed with. Knows no tables and no files."""

from tidemill.storage.decoder_spec import DecoderSpec, Rope
from tidemill.storage.errors import FormatError

SIZE_MAX = 1 << 24  # of any dimension of a decoder
LAYERS_MAX = 4096
# Kernels compute in f32: what is no normal number there becomes 0 or infinite on the way.
F32_MIN = 2.0**-126
F32_MAX = (2.0 - 2.0**-23) * 2.0**127


def check_decoder(spec: DecoderSpec) -> None:
    """Raises FormatError that names the field, its value and what was expected."""
    for name in ("vocab_size", "hidden_size", "head_count", "kv_head_count", "head_size", "ff_size", "max_context"):
        _require_size(name, getattr(spec, name), SIZE_MAX)
    _require_size("layer_count", spec.layer_count, LAYERS_MAX)
    if spec.head_count % spec.kv_head_count:
        raise FormatError(f"{spec.head_count} heads do not share {spec.kv_head_count} kv heads")
    if spec.head_size % 2:
        raise FormatError(f"decoder.head_size is {spec.head_size}, expected an even number")
    if len(spec.windows) != spec.layer_count or not all(0 <= window <= SIZE_MAX for window in spec.windows):
        raise FormatError(
            f"decoder.windows is {spec.windows!s:.200} of {len(spec.windows)} entries, expected one of "
            f"0..{SIZE_MAX} for each of {spec.layer_count} layers"
        )
    for name in ("norm_eps", "embed_scale", "attention_scale"):
        _require_positive(name, getattr(spec, name))
    if spec.norm_eps >= 1:
        raise FormatError(f"decoder.norm_eps is {spec.norm_eps}, expected less than 1")
    if not abs(spec.norm_weight_offset) <= F32_MAX:
        raise FormatError(f"decoder.norm_weight_offset is {spec.norm_weight_offset}, expected a finite number")
    _check_rope("rope", spec.rope)
    if spec.local_rope is not None:
        _check_rope("local_rope", spec.local_rope)
    _check_token_ids(spec)


def _require_size(name: str, value: int, most: int) -> None:
    if not 0 < value <= most:
        raise FormatError(f"decoder.{name} is {value}, expected 1..{most}")


def _require_positive(name: str, value: float) -> None:
    if not F32_MIN <= value <= F32_MAX:  # false for NaN as well
        raise FormatError(f"decoder.{name} is {value}, expected a positive finite number of f32")


def _check_rope(name: str, rope: Rope) -> None:
    _require_positive(f"{name}.theta", rope.theta)
    scaling = rope.scaling
    if scaling is None:
        return
    for field in ("factor", "low_freq_factor", "high_freq_factor"):
        _require_positive(f"{name}.scaling.{field}", getattr(scaling, field))
    _require_size(f"{name}.scaling.original_context", scaling.original_context, SIZE_MAX)
    if scaling.low_freq_factor >= scaling.high_freq_factor:  # their difference is divided by
        raise FormatError(
            f"decoder.{name}.scaling.low_freq_factor is {scaling.low_freq_factor}, expected less than "
            f"high_freq_factor {scaling.high_freq_factor}"
        )


def _check_token_ids(spec: DecoderSpec) -> None:
    bos = () if spec.bos_token_id is None else (spec.bos_token_id,)
    for name, ids in (("bos_token_id", bos), ("eos_token_ids", spec.eos_token_ids)):
        for token in ids:
            if not 0 <= token < spec.vocab_size:
                raise FormatError(f"decoder.{name} has {token}, expected token ids of 0..{spec.vocab_size - 1}")
