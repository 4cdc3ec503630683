"""One recorded trace, replayed for one preload policy after another: what each of them names, and what was used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.recorded_trace import RecordedActivations, RecordedTrace
from benchmarks.without_cached import WithoutCached
from tidemill.actors.predictor.policies.gated_low_rank import silu
from tidemill.actors.predictor.policies.policy import INPUT_KINDS, U32, InputKind, PreloadPolicy, Seen
from tidemill.actors.predictor.policies.selection import choose_channels, group_score

Sets = Literal["shared", "own"]


class Condition(NamedTuple):
    """What a figure is about: see Row."""

    policy: str
    kind: InputKind
    distance: int | None = None
    group: int | None = None
    source: str | None = None
    sets: Sets | None = None


@dataclass(frozen=True)
class Row:
    """`distance`: layers ahead, or None where `group` layers were predicted from the `source` layer of the group
    before, with `sets` of channels shared by its layers or each layer's own. Means over (position, layer) of the shares
    of active channels named and of named channels active."""

    policy: str
    kind: InputKind
    distance: int | None
    group: int | None
    source: str | None
    sets: str | None
    recall: float
    precision: float
    chance: float
    samples: int


@dataclass
class Tally:
    recall: float = 0.0
    precision: float = 0.0
    chance: float = 0.0
    samples: int = 0

    def add(self, named: U32 | None, active: U32, channels: int, budget: int) -> None:
        """`named` and `active`: ascending channel ids; None: nothing was predicted, which counts as nothing found."""
        if not len(active):
            return
        hits = 0 if named is None else len(np.intersect1d(named, active, assume_unique=True))
        self.recall += hits / len(active)
        self.precision += hits / len(named) if named is not None and len(named) else 0.0
        self.chance += min(1.0, budget / channels)
        self.samples += 1


@dataclass(frozen=True)
class Replay:
    """One trace, replayed for one policy after another."""

    trace: RecordedTrace
    activations: RecordedActivations | None
    budget_ratio: float
    cache_share: float
    positions: range
    tallies: dict[Condition, Tally] = field(default_factory=dict)

    def run(self, name: str, policy: PreloadPolicy, distances: Sequence[int], groups: Sequence[int]) -> None:
        """Counts into the tallies under `name`. Distance 0: `down`, from what is known of its own layer before it."""
        cached = WithoutCached(policy, self.trace.channels, self.trace.layer_count, self.cache_share)
        cached.begin_sequence()
        for position in self.positions:
            cached.begin_position(position)
            for layer in range(self.trace.layer_count):
                self._observe(cached, position, layer, name, 0 in distances)
                self._by_distance(cached, position, layer, name, [d for d in distances if d])
                self._by_group(cached, position, layer, name, groups)

    def rows(self) -> Iterator[Row]:
        for condition, tally in self.tallies.items():
            if tally.samples:
                count = tally.samples
                means = (tally.recall / count, tally.precision / count, tally.chance / count)
                yield Row(*condition, *means, count)

    def _observe(self, policy: WithoutCached, position: int, layer: int, name: str, within: bool) -> None:
        for kind in INPUT_KINDS:
            if kind == "down":
                gate = self.activations.of(position, layer, "gate") if self.activations else None
                if gate is not None:
                    policy.observe(Seen(layer, "gate", np.zeros(0, np.uint32), silu(gate)))
                if within:
                    self._tally(policy, position, (layer, layer), Condition(name, kind, 0))
            values = self.activations.of(position, layer, kind) if self.activations else None
            policy.observe(Seen(layer, kind, self.trace.active(position, layer, kind), values))

    def _by_distance(
        self, policy: WithoutCached, position: int, layer: int, name: str, distances: Sequence[int]
    ) -> None:
        for distance in distances:
            if layer + distance < self.trace.layer_count:
                for kind in INPUT_KINDS:
                    self._tally(policy, position, (layer, layer + distance), Condition(name, kind, distance))

    def _tally(self, policy: WithoutCached, position: int, layers: tuple[int, int], condition: Condition) -> None:
        """`layers`: the one that was seen last, and the one to predict"""
        kind = condition.kind
        active = policy.missing(self.trace.active(position, layers[1], kind), layers[1], kind)
        budget = self._budget(len(active), kind)
        scores = policy.score(layers[1], kind, layers[0])
        named = None if scores is None else choose_channels(scores, budget).channels
        self.tallies.setdefault(condition, Tally()).add(named, active, self._open_channels(kind), budget)

    def _by_group(self, policy: WithoutCached, position: int, layer: int, name: str, groups: Sequence[int]) -> None:
        for group in groups:
            start = layer // group * group
            for source, at in (("first", start), ("last", start + group - 1)):
                target = range(start + group, min(start + 2 * group, self.trace.layer_count))
                if at == layer and target and (source == "first" or group > 1):
                    for kind in INPUT_KINDS:
                        shared = Condition(name, kind, None, group, source, "shared")
                        self._tally_shared(policy, position, target, layer, shared)
                        for one in target:
                            self._tally(policy, position, (layer, one), shared._replace(sets="own"))

    def _tally_shared(
        self, policy: WithoutCached, position: int, target: range, source_layer: int, condition: Condition
    ) -> None:
        kind = condition.kind
        sets = [policy.missing(self.trace.active(position, layer, kind), layer, kind) for layer in target]
        budget = self._budget(round(sum(map(len, sets)) / len(sets)), kind)
        scores = group_score(policy, target, kind, source_layer)
        named = None if scores is None else choose_channels(scores, budget).channels
        tally = self.tallies.setdefault(condition, Tally())
        for active in sets:
            tally.add(named, active, self._open_channels(kind), budget)

    def _budget(self, count: int, kind: InputKind) -> int:
        return min(self._open_channels(kind), round(count * self.budget_ratio))

    def _open_channels(self, kind: InputKind) -> int:
        """Those that the cache hasn't room for."""
        channels = self.trace.channels[kind]
        return channels - int(channels * self.cache_share)
