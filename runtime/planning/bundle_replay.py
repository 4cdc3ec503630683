"""What residency and reads make of selections: replays some layers with the arena's own residency, and lets the
reader's own planner merge what is missing. Pure; knows no seconds of compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, choose_policy
from tidemill.actors.arena.residency.moving_quotas import RULES, MovingQuotas
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.planning.preloading import NOTHING, Bundles, Preloading
from tidemill.runtime.planning.rates import GatherRates
from tidemill.runtime.planning.selections import Selections
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import BundlePlan, CachedTable
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role
from tidemill.storage.read_choices import DEARER, ReadChoices

KIND_OF: Mapping[Role, InputKind] = MappingProxyType(
    {
        "attn_qkv": "qkv",
        "attn_out": "o",
        "mlp_in": "gate_up",
        "mlp_down": "down",
        "mlp_updown": "gate",
        "mlp": "neuron",
    }
)
TOKENS = 32  # replayed: residency has settled within a point by then
WARM_TOKENS = 8  # of those, before counting begins
PLANNED_TOKENS = 3  # the last ones, whose reads are planned
LAYERS = 2  # tables replayed of each role: quotas are the same in all layers but the first group's


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Per token, on average: `bundles` wanted ones in `requests` reads."""

    bundles: float = 0.0
    useful_bytes: float = 0.0
    requests: float = 0.0
    read_bytes: float = 0.0

    def plus(self, other: "Reads", times: float = 1.0) -> "Reads":
        return Reads(
            bundles=self.bundles + times * other.bundles,
            useful_bytes=self.useful_bytes + times * other.useful_bytes,
            requests=self.requests + times * other.requests,
            read_bytes=self.read_bytes + times * other.read_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUse:
    """All visits to the tables of one role in a token, on average. `quota` is of one layer behind the first group.
    `demand`: what is missing. `planned`: what of it, and in vain, is preloaded where that is done; `left`: what is
    missing then."""

    role: Role
    pool: int
    kind: str  # of stored element
    channels: int
    quota: int
    visits: int
    missing_visits: int  # of layers that are not locked
    active: float
    active_bytes: float
    hits: float
    demand: Reads
    planned: Reads
    left: Reads

    @property
    def hit_rate(self) -> float:
        return self.hits / self.active if self.active else 1.0

    @property
    def active_share(self) -> float:
        return self.active / (self.visits * self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is replayed. `learns` False: a dense step, which teaches residency nothing."""

    manifest: Manifest
    plan: BundlePlan
    selections: Selections
    residency: ResidencyChoice
    choices: ReadChoices
    gathers: GatherRates
    preloading: Preloading | None
    learns: bool


def replay_bundles(replay: Replay) -> tuple[TableUse, ...]:
    """By role, in compute order. Raises ValueError where a trace does not belong to the model."""
    by_role: dict[Role, list[CachedTable]] = {}
    for cached in replay.plan.tables:
        by_role.setdefault(replay.manifest.tables[cached.table].role, []).append(cached)
    chosen = {role: _choose(tables) for role, tables in by_role.items()}
    samples = _sample(replay, [cached for tables in chosen.values() for cached in tables])
    return tuple(
        _use_of(replay, role, tables, [samples[cached.table] for cached in chosen[role]])
        for role, tables in by_role.items()
    )


def _choose(tables: Sequence[CachedTable]) -> Sequence[CachedTable]:
    """Those of a role that are replayed, of all that are not kept whole."""
    open_tables = [cached for cached in tables if cached.quotas[0] < cached.channels]
    chosen = {len(open_tables) * (i + 1) // (LAYERS + 1) for i in range(LAYERS)} if open_tables else set()
    return [open_tables[i] for i in sorted(chosen)]


def _use_of(replay: Replay, role: Role, tables: Sequence[CachedTable], samples: Sequence["_Sample"]) -> TableUse:
    manifest = replay.manifest
    table = manifest.tables[tables[0].table]
    visits = sum(len(cached.quotas) for cached in tables)
    missing_visits = sum(len(cached.quotas) for cached in tables if cached.quotas[0] < cached.channels)
    shares = [
        replay.selections.share(KIND_OF[role], manifest.tables[cached.table].layer, cached.channels)
        for cached in tables
    ]
    active = visits * float(np.mean(shares)) * table.channel_count
    missing, demand, planned, left = 0.0, Reads(), Reads(), Reads()
    for sample in samples:
        times = missing_visits / len(samples)
        missing += times * sample.missing
        demand, planned = demand.plus(sample.demand, times), planned.plus(sample.planned, times)
        left = left.plus(sample.left, times)
    return TableUse(
        role=role,
        pool=tables[0].pool,
        kind=table.kind,
        channels=table.channel_count,
        quota=min((cached.quotas[0] for cached in tables), default=0),
        visits=visits,
        missing_visits=missing_visits,
        active=active,
        active_bytes=active * table.planes[0].bundle_bytes,
        hits=max(0.0, active - missing),
        demand=demand,
        planned=planned,
        left=left,
    )


class _Sample(NamedTuple):
    """Of one visit, on average: what residency lacks, and reads."""

    missing: float
    demand: Reads
    planned: Reads
    left: Reads


def _sample(replay: Replay, tables: Sequence[CachedTable]) -> Mapping[int, _Sample]:
    """By table."""
    tables = sorted(tables, key=lambda cached: cached.table)  # in the order in which a token visits them
    alone = _play(replay, tables, None)
    if replay.preloading is None:
        return {table: _Sample(missing, demand, Reads(), demand) for table, (missing, demand, _) in alone.items()}
    ahead = _play(replay, tables, replay.preloading)
    return {
        table: _Sample(missing, demand, planned=ahead[table][2], left=ahead[table][1])
        for table, (missing, demand, _) in alone.items()
    }


def _play(
    replay: Replay, tables: Sequence[CachedTable], preloading: Preloading | None
) -> Mapping[int, tuple[float, Reads, Reads]]:
    """Token after token after a prompt that used everything, by table: of a visit, (bundles that residency lacks, reads
    on demand, preloads). Quotas move between these tables as those of a run do between all."""
    groups = [_Group(replay, cached) for cached in tables]
    parts = [(group, place) for group in groups for place in range(group.layers)]
    moving = None
    if replay.learns and replay.residency.quotas == "adaptive":
        moving = MovingQuotas([group.parts[place] for group, place in parts], [g.pool for g, _ in parts], RULES)
    for group in groups:
        group.read_prompt()
    tokens = min((len(visits) for group in groups for visits in group.visits), default=0)
    planned_from = tokens - min(PLANNED_TOKENS, tokens)
    counted_from = min(WARM_TOKENS, planned_from)
    for token in range(tokens):
        for number, (group, place) in enumerate(parts):
            group.play(token, place, preloading, counts=token >= counted_from, plans=token >= planned_from)
            if moving is not None:
                moving.settled(number)
    return {group.table: group.told(tokens - counted_from, tokens - planned_from) for group in groups}


class _Group:
    """A table and the residencies of its layers. What a visit misses is read for the later layers of the group too, as
    far as there are slots to spare, and stays staged until their visits (actors/arena/bundle_store.py)."""

    def __init__(self, replay: Replay, cached: CachedTable) -> None:
        table = replay.manifest.tables[cached.table]
        self.table, self.pool = cached.table, cached.pool
        self.kind = KIND_OF[table.role]
        self.layers, self.channels = len(cached.quotas), cached.channels
        self.places = BundlePlaces(replay.manifest, TableId(cached.table))
        self.visits = [
            replay.selections.visits(self.kind, table.layer + place, cached.channels, TOKENS)
            for place in range(self.layers)
        ]
        self._replay = replay
        self.parts = [
            TableResidency(choose_policy(replay.residency, cached.channels), cached.channels, quota)
            for quota in cached.quotas
        ]
        self._staged = np.zeros((self.layers, cached.channels), np.bool_)
        self._room = spare_slots(replay.plan, cached.pool)
        self._everything = np.arange(cached.channels, dtype=np.uint32)
        self._rng = np.random.default_rng([1, table.layer, cached.channels])
        self._lacking = self._wanted = 0
        self._demand, self._planned = Reads(), Reads()

    def read_prompt(self) -> None:
        for part in self.parts:
            _settle(part, part.visit(self._everything, learns=False).missing)

    def play(self, token: int, place: int, preloading: Preloading | None, *, counts: bool, plans: bool) -> None:
        early = self.preload(token, place, preloading) if preloading is not None else NOTHING
        missing, demanded, bundles = self.visit(token, place)
        if counts:
            self._lacking += missing.size
            self._wanted += demanded
        if plans:
            self._demand = self._demand.plus(replace(self.reads(bundles), bundles=float(demanded)))
            self._planned = self._planned.plus(self.reads(early), 1 / self.layers)

    def told(self, counted: int, planned: int) -> tuple[float, Reads, Reads]:
        """Of so many tokens that were counted, and so many whose reads were planned: see `_play`."""
        visits = counted * self.layers
        scale = self._wanted / visits / self._demand.bundles if self._demand.bundles else 0.0
        demand = Reads().plus(self._demand, scale)
        return (
            self._lacking / visits,
            replace(demand, useful_bytes=demand.bundles * self.places.bundle_bytes),
            Reads().plus(self._planned, 1 / planned / self.layers),
        )

    def visit(self, token: int, place: int) -> tuple[Ids, int, Bundles]:
        """(what residency lacks, how much of that was not staged, bundles that are read)"""
        part = self.parts[place]
        missing = part.visit(self.visits[place][token], learns=self._replay.learns).missing
        demanded = missing[~self._staged[place][missing]].astype(np.int64)
        bundles = [demanded * self.layers + place]
        for later in range(place + 1, self.layers):
            lacking = (self.parts[later].slots_of(demanded.astype(np.uint32)) < 0) & ~self._staged[later][demanded]
            beside = demanded[lacking][: self._room]
            self._staged[later][beside] = True
            self._room -= beside.size
            bundles.append(beside * self.layers + later)
        self._room += int(np.count_nonzero(self._staged[place]))
        self._staged[place] = False
        _settle(part, missing)
        return missing, demanded.size, np.sort(np.concatenate(bundles))

    def preload(self, token: int, place: int, preloading: Preloading) -> Bundles:
        """The bundles of every layer of the group that are guessed of one's visit, and lacked by it."""
        guess = preloading.guess(self.kind, self.visits[place][token], self.channels, self._rng)
        lacking = (self.parts[place].slots_of(guess.astype(np.uint32)) < 0) & ~self._staged[place][guess]
        early = guess[lacking][: max(0, self._room)]
        self._staged[place][early] = True
        self._room -= early.size
        whole: Bundles = (early[:, None] * self.layers + np.arange(self.layers)).reshape(-1)
        return whole

    def reads(self, bundles: Bundles) -> Reads:
        """In the way that a run settles on (actors/reader/settle_reads.py)."""
        if not bundles.size:
            return Reads()
        found, replay, size = self.places.find(bundles), self._replay, self.places.bundle_bytes
        plans = [replay.choices.plan(choice, *found, size) for choice in range(len(DEARER))]
        plan = min(plans, key=lambda plan: replay.gathers.seconds(plan.requests, plan.read_bytes, bundles.size))
        return Reads(
            bundles=bundles.size, useful_bytes=plan.useful_bytes, requests=plan.requests, read_bytes=plan.read_bytes
        )


def spare_slots(plan: BundlePlan, pool: int) -> int:
    """Of a pool, beside what may stay and the largest visit."""
    tables = [cached for cached in plan.tables if cached.pool == pool]
    kept = sum(sum(cached.quotas) for cached in tables)
    return max(0, plan.pools[pool].slots - kept - max(cached.channels for cached in tables))


def _settle(part: TableResidency, missing: Ids) -> None:
    part.stage(missing, np.zeros(missing.size, np.int32))
    part.settle()
