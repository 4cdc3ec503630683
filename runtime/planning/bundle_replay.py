"""What residency and reads make of selections: replays some layers with the arena's own residency, and lets the
reader's own planner merge what is missing. Pure; knows no seconds of compute."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, choose_policy
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.planning.selections import Selections
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import BundlePlan, CachedTable
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role
from tidemill.storage.read_plan import ReadPlanner

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
LAYERS = 2  # replayed of each role: quotas are the same in all layers but the first group's


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
class Preloading:
    """`skill` by kind of input: the correlation of what is predicted with what the token scores. `share`: of the active
    channels, how many are preloaded."""

    share: float
    skill: Mapping[InputKind, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is replayed. `learns` False: a dense step, which teaches residency nothing."""

    manifest: Manifest
    plan: BundlePlan
    selections: Selections
    residency: ResidencyChoice
    planner: ReadPlanner
    preloading: Preloading | None
    learns: bool


def replay_bundles(replay: Replay) -> tuple[TableUse, ...]:
    """By role, in compute order. Raises ValueError where a trace does not belong to the model."""
    by_role: dict[Role, list[CachedTable]] = {}
    for cached in replay.plan.tables:
        by_role.setdefault(replay.manifest.tables[cached.table].role, []).append(cached)
    return tuple(_use_of(replay, role, tables) for role, tables in by_role.items())


def _use_of(replay: Replay, role: Role, tables: Sequence[CachedTable]) -> TableUse:
    manifest = replay.manifest
    table = manifest.tables[tables[0].table]
    open_tables = [cached for cached in tables if cached.quotas[0] < cached.channels]
    visits = sum(len(cached.quotas) for cached in tables)
    missing_visits = sum(len(cached.quotas) for cached in open_tables)
    samples = [_sample(replay, cached, place) for cached, place in _spread(open_tables)]
    shares = [
        replay.selections.share(KIND_OF[role], manifest.tables[cached.table].layer, cached.channels)
        for cached in tables
    ]
    active = visits * float(np.mean(shares)) * table.channel_count
    size = table.planes[0].bundle_bytes
    total = [Reads(), Reads(), Reads()]
    for sample in samples:
        total = [t.plus(s, missing_visits / len(samples)) for t, s in zip(total, sample, strict=True)]
    return TableUse(
        role=role,
        pool=tables[0].pool,
        kind=table.kind,
        channels=table.channel_count,
        quota=min((cached.quotas[0] for cached in tables), default=0),
        visits=visits,
        missing_visits=missing_visits,
        active=active,
        active_bytes=active * size,
        hits=active - total[0].bundles,
        demand=total[0],
        planned=total[1],
        left=total[2],
    )


def _spread(tables: Sequence[CachedTable]) -> list[tuple[CachedTable, int]]:
    """Tables in the middle of a model, and of their layers one from either end."""
    if not tables:
        return []
    chosen = [tables[len(tables) * (i + 1) // (LAYERS + 1)] for i in range(LAYERS)]
    return [(cached, (len(cached.quotas) - 1) * i // max(1, LAYERS - 1)) for i, cached in enumerate(chosen)]


def _sample(replay: Replay, cached: CachedTable, place: int) -> tuple[Reads, Reads, Reads]:
    """Of one layer's visit: (demand, planned, left), averages over tokens."""
    table = replay.manifest.tables[cached.table]
    kind, layer = KIND_OF[table.role], table.layer + place
    places = BundlePlaces(replay.manifest, TableId(cached.table))
    visits = replay.selections.visits(kind, layer, cached.channels, TOKENS)
    residency = TableResidency(choose_policy(replay.residency, cached.channels), cached.channels, cached.quotas[place])
    rng = np.random.default_rng([1, layer, cached.channels])
    missing_counts: list[int] = []
    demand, planned, left = Reads(), Reads(), Reads()
    planned_tokens = min(PLANNED_TOKENS, len(visits))
    last = len(visits) - planned_tokens
    played = _play(residency, cached.channels, visits, learns=replay.learns)
    for token, (active, missing, absent) in enumerate(played):
        if token >= min(WARM_TOKENS, last):
            missing_counts.append(missing.size)
        if token < last:
            continue
        demand = demand.plus(_reads(replay, places, missing * table.layers + place))
        if replay.preloading is not None:
            guess = _guess(replay.preloading, kind, active, cached.channels, rng)
            early = guess[absent[guess]]
            whole = (early[:, None] * table.layers + np.arange(table.layers)).reshape(-1)
            planned = planned.plus(_reads(replay, places, whole), 1 / table.layers)
            late = missing[~np.isin(missing, early)]
            left = left.plus(_reads(replay, places, late * table.layers + place))
        else:
            left = demand
    scale = float(np.mean(missing_counts)) / demand.bundles if demand.bundles else 0.0
    return _scaled(demand, scale), _scaled(planned, 1 / planned_tokens), _scaled(left, scale)


def _play(
    residency: TableResidency, channels: int, visits: Sequence[Ids], *, learns: bool
) -> Iterator[tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """After a prompt, which uses everything: (active, missing, which of all are absent beforehand) of each visit."""
    everything = np.arange(channels, dtype=np.uint32)
    for number, active in enumerate([everything, *visits]):
        absent = residency.slots_of(everything) < 0
        missing = residency.visit(active, learns=learns and number > 0).missing
        residency.stage(missing, np.zeros(missing.size, np.int32))
        residency.settle()
        if number > 0:
            yield active, missing.astype(np.int64), absent


def _guess(
    preloading: Preloading, kind: InputKind, active: Ids, channels: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Channels that a predictor of that skill would choose where `active` are the right ones, rising.

    True scores are drawn as normal, the active ones above the rest; the predictor sees them through noise.
    """
    count = int(preloading.share * active.size)
    skill = preloading.skill.get(kind, 0.0)
    drawn = np.sort(rng.standard_normal(channels))
    scores = np.empty(channels)
    is_active = np.zeros(channels, np.bool_)
    is_active[active] = True
    scores[is_active] = rng.permutation(drawn[channels - active.size :])
    scores[~is_active] = rng.permutation(drawn[: channels - active.size])
    seen = skill * scores + np.sqrt(1 - skill**2) * rng.standard_normal(channels)
    return np.sort(np.argpartition(seen, channels - count)[channels - count :]) if count else np.zeros(0, np.int64)


def _reads(replay: Replay, places: BundlePlaces, bundles: npt.NDArray[np.int64]) -> Reads:
    if not bundles.size:
        return Reads()
    plan = replay.planner.plan(*places.find(bundles), places.bundle_bytes)
    return Reads(
        bundles=bundles.size, useful_bytes=plan.useful_bytes, requests=plan.requests, read_bytes=plan.read_bytes
    )


def _scaled(reads: Reads, by: float) -> Reads:
    return Reads().plus(reads, by)
