"""The frozen description of one decoder: everything that turns tables of weights into logits, and nothing else.

Read from the source's configuration at conversion, kept in the manifest, followed by the compute actor.
"""

from typing import Literal

import msgspec

Family = Literal["llama", "mistral", "qwen2", "qwen3", "gemma3"]


class RopeScaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rotary frequencies are stretched. `linear` divides all by `factor`; `llama3` only the long wavelengths."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


class Rope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rotary embedding over the whole head, in halves: pairs are (i, i + head_size / 2)."""

    theta: float
    scaling: RopeScaling | None = None


class DecoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pre-norm decoder with grouped-query attention and a gated MLP.

    Layer: `x += post(attention(norm(x)))`, then `x += post(mlp(norm(x)))`, where `post` is the identity unless
    `post_norms`. Every norm is an RMS norm over `weight + norm_weight_offset`.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    layer_count: int
    head_count: int
    kv_head_count: int
    head_size: int
    ff_size: int
    activation: Literal["silu", "gelu_tanh"]
    norm_eps: float
    norm_weight_offset: float  # 0.0; Gemma 1.0
    embed_scale: float  # 1.0; Gemma sqrt(hidden_size)
    attention_scale: float  # factor on q·k, usually head_size ** -0.5
    qkv_bias: bool
    out_bias: bool
    qk_norm: bool  # RMS norm of each q and k head before rope
    post_norms: bool
    rope: Rope
    local_rope: Rope | None  # for windowed layers, where it differs (Gemma 3)
    windows: tuple[int, ...]  # per layer: how many positions it sees, itself included; 0 = all
    tied_head: bool
    max_context: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]

    @property
    def q_size(self) -> int:
        return self.head_count * self.head_size

    @property
    def kv_size(self) -> int:
        return self.kv_head_count * self.head_size

    @property
    def qkv_size(self) -> int:
        return self.q_size + 2 * self.kv_size

    def rope_of(self, layer: int) -> Rope:
        """The rotary embedding of one layer: `local_rope` where the layer is windowed and has its own."""
        return self.local_rope if self.local_rope is not None and self.windows[layer] else self.rope
