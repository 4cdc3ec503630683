from typing import Literal, get_args

import msgspec

# By what is preloaded of the next layers: `scaled` (cross-layer by magnitude), `cross-layer`, `look-ahead` (what
# compute foresees of the next layer's neurons), `previous-token`, `popularity`, or nothing.
PreloadKind = Literal["none", "scaled", "cross-layer", "look-ahead", "previous-token", "popularity"]
PRELOAD_KINDS: tuple[PreloadKind, ...] = get_args(PreloadKind)


class PreloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of self-contained bundles: which input it has (whole neurons count as `down`), and the layers that it
    spans."""

    table: int
    kind: Literal["qkv", "o", "gate_up", "down"]
    layer: int
    layers: int
    channels: int


class PreloadConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`tables` in compute order. `share`: of the channels that an input is computed with, how many are preloaded of
    each later one."""

    tables: tuple[PreloadTable, ...] = ()
    layer_count: int = 0
    kind: PreloadKind = "none"
    share: float = 0.0


class PredictorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    layer_ranges: tuple[tuple[int, int], ...]  # [start, stop) of the extents that every lap streams, in order
    head_range: tuple[int, int]
    preload: PreloadConfig = PreloadConfig()
