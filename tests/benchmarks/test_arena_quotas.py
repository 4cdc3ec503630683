"""A replay of a live run's trace gives that run's hits, misses, admissions and evictions, table by table and layer by
layer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arena_quotas import arena_pools, arena_quotas, parts_of
from benchmarks.policy_replay import make_policy, replay_tables
from benchmarks.quota_mover import Moves
from benchmarks.replayed_trace import ReplayedTrace, TableKey, load_trace
from tests.fakes.cells import FakeCell
from tests.fakes.layouts import BLOCKY, write_blocky_model
from tests.fakes.lossy_models import CHOICES, HALF_OF
from tests.fakes.selections import HALF
from tidemill.actors.arena.residency.choose_policy import RESIDENCY_KINDS, ResidencyChoice, ResidencyKind
from tidemill.actors.arena.residency.moving_quotas import RULES
from tidemill.actors.counters import Counter
from tidemill.actors.packing import pack_ids, unpack_bits
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.options import PRELOADS_OF
from tidemill.runtime.selection_recorder import INPUT_OF, trace_header
from tidemill.storage.arena_plan import ArenaPlan, ArenaTooSmallError, plan_arena
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.trace.trace_writer import TraceWriter

pytestmark = pytest.mark.slow
PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 9  # more than the window policy remembers
POLICY_OF = {"channels": "topk, all apart", "groups": "topk, all apart", "gates": "gate", "neurons": "neuron"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    for name, choice in CHOICES.items():
        write_blocky_model(root / name, choice)
    return {name: root / name for name in CHOICES}


def plan_of(manifest: Manifest, share: float) -> ArenaPlan:
    """The arena at its minimum, plus a share of what is between that and the whole."""
    with pytest.raises(ArenaTooSmallError) as caught:
        plan_arena(manifest, 1)
    least, most = caught.value.minimum_bytes, plan_arena(manifest, 1 << 40).arena_bytes
    return plan_arena(manifest, least + int(share * (most - least)))


def record(cell: FakeCell, model: Path, layout: str, path: Path) -> ReplayedTrace:
    manifest = load_manifest(model)
    with TraceWriter(path, trace_header(manifest, layout, HALF_OF[layout], len(PROMPT))) as trace:
        for row in cell.traced:
            name = INPUT_OF[manifest.tables[row.table].role]
            trace.add(row.position, row.layer, name, unpack_bits(row.channels))
    return load_trace(path)


def popularity_of(manifest: Manifest, plan: ArenaPlan) -> dict[TableKey, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """As if other text had been recorded."""
    rng = np.random.default_rng(3)
    return {
        key: rng.integers(0, 50, manifest.tables[table].channel_count)
        for key, table, _ in parts_of(manifest, plan.bundles)
    }


def assert_live_is_replayed(
    model: Path,
    layout: str,
    choice: ResidencyChoice,
    preload: PreloadKind,
    share: float,
    path: Path,
    *,
    count: int = COUNT,
) -> FakeCell:
    """The cell that ran."""
    manifest = load_manifest(model)
    plan = plan_of(manifest, share)
    popularity = popularity_of(manifest, plan)
    packed: dict[int, bytes] = {}
    for key, table, _ in parts_of(manifest, plan.bundles):
        packed[table] = packed.get(table, b"") + pack_ids(popularity[key])
    cell = FakeCell(
        model, plan, seed=4, policy=HALF[POLICY_OF[layout]](BLOCKY), residency=choice, preload=preload,
        popularity=packed, traces=True,
    )  # fmt: skip
    cell.greedy(PROMPT, count)
    cell.settle()
    trace = record(cell, model, layout, path)
    quotas = arena_quotas(manifest, plan.bundles)
    policies = {key: make_policy(choice.kind, trace, key, 5, popularity, quotas[key]) for key in trace.tables}
    moves = Moves(arena_pools(manifest, plan.bundles), RULES) if choice.quotas == "adaptive" else None
    tallies = replay_tables(trace, policies, quotas, "none", moves)
    for key, table, place in parts_of(manifest, plan.bundles):
        live, replayed = cell.arena.bundles.counts_of(table)[place], tallies[key]
        assert live.active == replayed.active, f"{key}"
        assert live.hits == replayed.hits, f"{key}"
        assert live.preload_hits + live.missed == replayed.active - replayed.hits, f"{key}"
        assert (live.admitted, live.evicted) == (replayed.admitted, replayed.evicted), f"{key}"
    assert sum(tally.active for tally in tallies.values()) > 0
    assert cell.counters[Counter.QUOTA_MOVED] == sum(tally.moved for tally in tallies.values())
    return cell


CASES: list[tuple[str, ResidencyKind, PreloadKind, float]] = [
    *(("groups", kind, "scaled", 0.3) for kind in RESIDENCY_KINDS),
    *(("channels", "lfu", "none", share) for share in (0.0, 0.6, 1.0)),
    ("channels", "window", "scaled", 0.6),
    ("gates", "lfu", "none", 0.3),
    ("neurons", "lru", "none", 0.3),
]


@pytest.mark.parametrize(("layout", "kind", "preload", "share"), CASES)
def test_the_live_counts_are_the_replays(
    models: Mapping[str, Path], layout: str, kind: ResidencyKind, preload: PreloadKind, share: float, tmp_path: Path
) -> None:
    assert_live_is_replayed(models[layout], layout, ResidencyChoice(kind), preload, share, tmp_path / "a.arrow")


ADAPTIVE = ResidencyChoice("lfu", quotas="adaptive")
MOVING_CASES: list[tuple[str, PreloadKind, float]] = [
    *(("groups", preload, share) for preload in PRELOADS_OF["topk"] for share in (0.1, 0.6)),
    *(("channels", preload, 0.6) for preload in ("none", "cross-layer")),
    *((layout, preload, 0.85) for layout in ("gates", "neurons") for preload in ("none", "previous-token")),
]


@pytest.mark.parametrize(("layout", "preload", "share"), MOVING_CASES)
def test_the_live_counts_are_the_replays_where_quotas_move(
    models: Mapping[str, Path], layout: str, preload: PreloadKind, share: float, tmp_path: Path
) -> None:
    """After 4, 8 and 16 tokens of selections."""
    path = tmp_path / "a.arrow"
    cell = assert_live_is_replayed(models[layout], layout, ADAPTIVE, preload, share, path, count=20)
    assert cell.counters[Counter.QUOTA_MOVED] > 0


def test_nothing_moves_where_everything_stays(models: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    cell = assert_live_is_replayed(models["channels"], "channels", ADAPTIVE, "none", 1.0, path)
    assert cell.counters[Counter.QUOTA_MOVED] == 0
