"""What single bundles to read ahead: of the next table when a step computes with everything, of the next layers when it
selects. Pure: it knows no slot, no read and nothing of what already lies in DRAM."""

from collections.abc import Mapping

import numpy as np

from tidemill.actors.messages import InputSeen, PreloadBundles
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.actors.predictor.config import PreloadConfig, PreloadTable
from tidemill.actors.predictor.policies.best_per_input import BestPerInputPolicy
from tidemill.actors.predictor.policies.cross_layer import CrossLayerPolicy
from tidemill.actors.predictor.policies.policy import INPUT_KINDS, U32, InputKind, PreloadPolicy, Seen
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.previous_token import PreviousTokenPolicy
from tidemill.actors.predictor.policies.scaled_cross_layer import ScaledCrossLayerPolicy
from tidemill.actors.predictor.policies.selection import choose_channels, group_score

MESSAGE_BUNDLES = 4096
RECENT = 0.8  # how much of a use counts one position later, where recent uses predict
MEANS = 0.9  # likewise for mean magnitudes
# Inputs that read the residual stream tell of their own kind in later layers; `o` and `down` have no identity across
# layers, and are predicted at the same moments by what this text used: docs/decisions/0015.
TOLD_BY: Mapping[InputKind, tuple[InputKind, ...]] = {"qkv": ("qkv", "o"), "gate_up": ("gate_up", "down")}
NEURONS_TOLD_BY: Mapping[InputKind, tuple[InputKind, ...]] = {"down": ("down",)}  # where whole neurons are read


class Preloader:
    def __init__(self, config: PreloadConfig) -> None:
        self._config = config
        self._tables = {table.table: table for table in config.tables}
        self._following = dict(zip((t.table for t in config.tables), config.tables[1:], strict=False))
        self._beginning: dict[tuple[InputKind, int], PreloadTable] = {(t.kind, t.layer): t for t in config.tables}
        self._told_by = TOLD_BY if any(t.kind == "qkv" for t in config.tables) else NEURONS_TOLD_BY
        self._policy = _build_policy(config)
        self._last_layer = -1

    def seen(self, message: InputSeen) -> list[PreloadBundles]:
        table = self._tables.get(message.table)
        if table is None:
            return []
        if not message.bundles:
            return self._next_whole(table, message)
        active = unpack_ids(message.bundles) // np.uint32(table.layers)
        if self._config.kind == "look-ahead":
            return self._foreseen(table, message, len(active))
        if self._policy is None:
            return []
        if message.layer < self._last_layer:
            self._policy.begin_position(0)
        self._last_layer = message.layer
        values = np.frombuffer(message.values, "<f4") if message.values else None
        self._policy.observe(Seen(message.layer, table.kind, active, values))
        return [
            preload
            for kind in self._told_by.get(table.kind, ())
            for preload in self._next_table(kind, table, message, len(active))
        ]

    def _next_whole(self, table: PreloadTable, message: InputSeen) -> list[PreloadBundles]:
        following = self._following.get(table.table)
        if following is None or message.layer != table.layer:
            return []
        whole = np.arange(following.channels * following.layers, dtype=np.uint32)
        return _messages(message.epoch, following, whole, certain=True)

    def _foreseen(self, table: PreloadTable, message: InputSeen, active: int) -> list[PreloadBundles]:
        """The likeliest of what compute expects of the next layer."""
        target = self._beginning.get((table.kind, message.layer + 1))
        if target is None or not message.foreseen:
            return []
        channels = np.sort(unpack_ids(message.foreseen)[: round(self._config.share * active)])
        return _messages(message.epoch, target, channels, certain=False)

    def _next_table(
        self, kind: InputKind, table: PreloadTable, message: InputSeen, active: int
    ) -> list[PreloadBundles]:
        """Of a kind that is told of by its own input, the next group once, by the first layer of this one: later is
        better, and late. Of any other the table that begins with the next layer."""
        if kind == table.kind and message.layer != table.layer:
            return []
        target = self._beginning.get((kind, message.layer + (table.layers if kind == table.kind else 1)))
        if target is None or self._policy is None:
            return []
        layers = range(target.layer, target.layer + target.layers)
        scores = group_score(self._policy, layers, kind, message.layer)
        if scores is None:
            return []
        budget = int(self._config.share * active * target.channels / table.channels)
        channels = choose_channels(scores, budget).channels
        places = np.arange(target.layers, dtype=np.uint32)
        bundles: U32 = (channels[:, None] * np.uint32(target.layers) + places).reshape(-1)
        return _messages(message.epoch, target, bundles, certain=False)


def _messages(epoch: int, table: PreloadTable, bundles: U32, *, certain: bool) -> list[PreloadBundles]:
    """Small enough for many to be on the link."""
    return [
        PreloadBundles(epoch, table.table, pack_ids(bundles[i : i + MESSAGE_BUNDLES]), certain)
        for i in range(0, len(bundles), MESSAGE_BUNDLES)
    ]


def _build_policy(config: PreloadConfig) -> PreloadPolicy | None:
    channels: dict[InputKind, int] = {table.kind: table.channels for table in config.tables}
    if not channels:
        return None
    match config.kind:
        case "none" | "look-ahead":
            return None
        case "previous-token":
            return PreviousTokenPolicy(channels)
        case "popularity":
            return PopularityPolicy(channels, config.layer_count, decay=1.0, prior={})
        case "cross-layer":
            return _by_input(config, channels, CrossLayerPolicy(channels))
        case "scaled":
            kinds = [kind for kind in INPUT_KINDS if kind in ("qkv", "gate_up")]
            scaled = ScaledCrossLayerPolicy(channels, config.layer_count, kinds, decay=MEANS, prior={})
            return _by_input(config, channels, scaled)


def _by_input(config: PreloadConfig, channels: dict[InputKind, int], residual: PreloadPolicy) -> PreloadPolicy:
    """`residual` for what reads the residual stream, and for the rest what measured best."""
    previous = PreviousTokenPolicy(channels)
    recent = PopularityPolicy(channels, config.layer_count, decay=RECENT, prior={})
    return BestPerInputPolicy({"qkv": residual, "gate_up": residual, "o": previous, "down": recent})
