"""Which channels or neurons tokens select, for replaying what residency and reads make of them: stated or traced.

The *stated* selections are drawn: channel k of an input scores σ·p_k + noise in each token, p_k and noise being normal,
and the highest scores are selected. σ says how popular the popular channels are; it was fitted so that a contextual LFU
hits as it does on traces of SmolLM2-135M (prose, top-k inputs at 50 and 70 %), whose hit rates it meets within three
points for caches of 10 to 75 %. Which channels are popular says nothing of where they lie.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.storage.trace.trace_reader import TraceReader

F64 = npt.NDArray[np.float64]
EVERY_TOKEN = 1 << 30
# Inputs that read the residual stream select alike in layers near to one another: 73, 67, 64 and 62 % of the larger
# half are shared by layers 1 to 4 apart (docs/decisions/0015), which these correlations give.
ALIKE: frozenset[InputKind] = frozenset({"qkv", "gate_up"})
ALL_LAYERS, NEXT_LAYER = 0.35, 0.5
FAR_LAYERS = 6  # beyond, nothing is left of a layer's own part


class Popularity(NamedTuple):
    """σ where half of the channels are selected, and how much it grows as that share falls by 1: popularity has a
    heavier tail than the normal distribution that stands for it."""

    at_half: float
    growth: float

    def sigma(self, active_share: float) -> float:
        return max(0.0, self.at_half + self.growth * (0.5 - active_share))


# Neurons that a predictor or the gate chooses are taken to be as popular as those that `down` selects.
POPULARITY: Mapping[InputKind, Popularity] = MappingProxyType(
    {
        "qkv": Popularity(0.33, 1.2),
        "o": Popularity(0.85, 2.5),
        "gate_up": Popularity(0.28, 1.2),
        "down": Popularity(0.38, 1.0),
        "gate": Popularity(0.38, 1.0),
        "neuron": Popularity(0.38, 1.0),
    }
)


class Selections(Protocol):
    """What one input of one layer selects, token after token."""

    @property
    def told(self) -> str:
        """Where they come from, for people; empty when nothing was assumed."""

    def visits(self, kind: InputKind, layer: int, channels: int, tokens: int) -> Sequence[Ids]:
        """Of each of at most `tokens` tokens: rising ids below `channels`."""

    def share(self, kind: InputKind, layer: int, channels: int) -> float:
        """Of the channels, what a token selects on average."""


class StatedSelections:
    """`shares`: of the channels of each kind of input, what is selected; kinds that are not named are whole."""

    told = "which weights tokens share is drawn from popularities fitted to traces of SmolLM2-135M"

    def __init__(self, shares: Mapping[InputKind, float]) -> None:
        self._shares = shares
        self._drawn: dict[tuple[InputKind, int, int, int], list[Ids]] = {}

    def visits(self, kind: InputKind, layer: int, channels: int, tokens: int) -> Sequence[Ids]:
        key = (kind, layer, channels, tokens)
        if key not in self._drawn:
            self._drawn[key] = self._draw(*key)
        return self._drawn[key]

    def share(self, kind: InputKind, layer: int, channels: int) -> float:
        return self._shares.get(kind, 1.0)

    def _draw(self, kind: InputKind, layer: int, channels: int, tokens: int) -> list[Ids]:
        share = self.share(kind, layer, channels)
        count = round(share * channels)
        if count >= channels:
            return [np.arange(channels, dtype=np.uint32)] * tokens
        scores = (
            _like_other_layers(layer, (tokens + 1, channels)) if kind in ALIKE else _normal(layer, tokens, channels)
        )
        popular = POPULARITY[kind].sigma(share) * scores[0]
        return [_highest(popular + noise, count) for noise in scores[1:]]


def _normal(layer: int, tokens: int, channels: int) -> F64:
    return np.random.default_rng([layer, channels]).standard_normal((tokens + 1, channels))


def _like_other_layers(layer: int, shape: tuple[int, int]) -> F64:
    """Normal; of layers d apart with a correlation of ALL_LAYERS + (1 - ALL_LAYERS) · NEXT_LAYER^d."""
    own = np.random.default_rng([0, *shape]).standard_normal(shape)
    for at in range(max(1, layer - FAR_LAYERS), layer + 1):
        fresh = np.random.default_rng([at, *shape]).standard_normal(shape)
        own = NEXT_LAYER * own + np.sqrt(1 - NEXT_LAYER**2) * fresh
    common = np.random.default_rng([1 << 20, *shape]).standard_normal(shape)
    scores: F64 = np.sqrt(ALL_LAYERS) * common + np.sqrt(1 - ALL_LAYERS) * own
    return scores


class TracedSelections:
    """What a run selected, its prompt left out."""

    told = ""

    def __init__(self, rows: Mapping[tuple[InputKind, int], Sequence[Ids]], sparsity: float, policy: str) -> None:
        self._rows = rows
        self.sparsity = sparsity
        self.policy = policy

    @classmethod
    def load(cls, path: Path) -> "TracedSelections":
        """Raises FormatError, VersionError."""
        rows: dict[tuple[InputKind, int], list[Ids]] = {}
        with TraceReader(path) as trace:
            header = trace.header
            for row in trace:
                if row.position >= header.prompt_positions:
                    rows.setdefault((row.input, row.layer), []).append(row.selected.copy())
        return cls(rows, header.sparsity, header.policy)

    def visits(self, kind: InputKind, layer: int, channels: int, tokens: int) -> Sequence[Ids]:
        """Raises ValueError for a trace of another model or policy."""
        found = self._rows.get((kind, layer))
        if found is None and kind == "gate":  # a trace calls all chosen neurons by one name
            found = self._rows.get(("neuron", layer))
        if not found or max((int(ids[-1]) for ids in found if ids.size), default=0) >= channels:
            raise ValueError(
                f"the trace has no selections of {channels} channels of input {kind} in layer {layer}: it was recorded "
                "with another model or --select; record one: tidemill trace"
            )
        return found[:tokens]

    def share(self, kind: InputKind, layer: int, channels: int) -> float:
        found = self.visits(kind, layer, channels, EVERY_TOKEN)
        return float(np.mean([ids.size for ids in found])) / channels


def _highest(scores: F64, count: int) -> Ids:
    cut = scores.size - count
    return np.sort(np.argpartition(scores, cut)[cut:]).astype(np.uint32)
