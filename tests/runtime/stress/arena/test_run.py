from pathlib import Path

import msgspec
import pytest

from benchmarks.replayed_trace import load_trace, write_synthetic_trace
from benchmarks.table_replay import TableReplay
from tests.fakes.stress import FakeSurroundings, ticking_clock
from tidemill.actors.arena.residency.choose_policy import choose_part_policy
from tidemill.actors.packing import unpack_ids
from tidemill.runtime.stress.arena.job import ArenaFigures, ArenaJob, PolicyName, check_job, choice_of, parse_arena_size
from tidemill.runtime.stress.arena.run import plan_size, run_arena
from tidemill.runtime.stress.arena.visits import make_visits

SMALL = ArenaJob(
    name="arena", policies=("lfu",), sizes=("50%",), mix="zipf:0.8", layers=3, channels=64, active=0.25,
    bundle_bytes=64, tokens=20,
)  # fmt: skip


def run(job: ArenaJob) -> list[ArenaFigures]:
    return [report.arena for report in run_arena(job, FakeSurroundings(), ticking_clock()) if report.arena is not None]


@pytest.mark.parametrize("policy", ["lfu", "lru", "window", "none"])
def test_the_actor_hits_what_its_residency_does_alone(policy: PolicyName) -> None:
    job = msgspec.structs.replace(SMALL, policies=(policy,), sizes=("60%",))
    (found,) = run(job)
    visits = make_visits(job)
    hits = evicted = 0
    for cached in plan_size("60%", visits.manifest).tables:
        (quota,) = cached.quotas
        part = TableReplay(choose_part_policy(choice_of(policy, 5), 64, quota), 64, quota)
        for token in visits.tokens:
            part.visit(unpack_ids(token[cached.table].bundles), None, late=False)
        tally = part.close()
        hits, evicted = hits + tally.hits, evicted + tally.evicted
    assert (found.hits, found.evicted_per_token * found.tokens) == (hits, pytest.approx(evicted))
    assert found.bundles == 3 * 16 * 20
    assert found.hit_rate == found.hits / found.bundles


def test_policies_and_sizes_are_a_report_each_and_larger_arenas_hit_more() -> None:
    found = run(msgspec.structs.replace(SMALL, policies=("lfu", "hot-set", "adaptive"), sizes=("40%", "70%")))
    assert [figures.policy for figures in found] == ["lfu", "lfu", "hot-set", "hot-set", "adaptive", "adaptive"]
    for small, large in zip(found[::2], found[1::2], strict=True):
        assert small.arena_bytes < large.arena_bytes
        assert small.hit_rate < large.hit_rate
    assert all(figures.management_ns > 0 and figures.visit_ns.N == 60 for figures in found)


def test_a_loop_that_is_longer_than_the_cache_leaves_lru_nothing_and_lfu_what_it_holds() -> None:
    job = msgspec.structs.replace(SMALL, policies=("lru", "lfu"), mix="scan", sizes=("70%",), tokens=64, layers=4)
    lru, lfu = run(job)
    assert lru.demand_ratio > 1  # no cliff of one token's demand, but of the loop
    assert lru.late_hit_rate < 0.05 + 0.25  # the first layer is kept whole
    assert lfu.late_hit_rate > lru.late_hit_rate + 0.2


def test_below_one_tokens_demand_it_is_said() -> None:
    below, above = run(msgspec.structs.replace(SMALL, sizes=("42%", "95%"), active=0.5))
    assert below.demand_ratio < 1 <= above.demand_ratio
    assert "smaller than one token's demand" in below.below_demand
    assert above.below_demand == ""


def test_a_trace_is_visited_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_synthetic_trace(path, tokens=6, seed=1)
    (found,) = run(msgspec.structs.replace(SMALL, trace=str(path)))
    trace = load_trace(path)
    assert (found.bundles, found.tokens, found.visits) == (trace.active, 6, len(trace.visits))


def test_hot_sets_of_a_trace_come_from_other_text(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_synthetic_trace(path, tokens=6, seed=1)
    job = msgspec.structs.replace(SMALL, trace=str(path), policies=("hot-set",))
    with pytest.raises(ValueError, match="--calibration"):
        check_job(job)
    (found,) = run(check_job(msgspec.structs.replace(job, calibration=str(path))))
    assert found.hits > 0
    assert found.evicted_per_token == 0


def test_with_a_time_tokens_begin_again_and_a_stop_gives_what_there_is() -> None:
    job = msgspec.structs.replace(SMALL, runtime_s=0.05, policies=("lfu", "lru"))
    assert all(figures.tokens > 20 for figures in run(job))
    stopped = run_arena(msgspec.structs.replace(job, runtime_s=60.0), FakeSurroundings(stop_after=10))
    assert len(stopped) == 1
    assert stopped[0].arena is not None
    assert stopped[0].arena.tokens < 20


def test_an_arena_that_no_visit_fits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--size 5% is .* the largest visit needs 4096"):
        run(msgspec.structs.replace(SMALL, sizes=("5%",)))


def test_sizes_are_shares_of_the_bundles_or_bytes() -> None:
    assert (parse_arena_size("25%", 4096), parse_arena_size("1m", 4096)) == (1024, 1 << 20)
    for text in ("0%", "101%", "x%"):
        with pytest.raises(ValueError, match="is no share"):
            parse_arena_size(text, 4096)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"policies": ("belady",)}, "--policies is belady, accepted: lfu, window"),
        ({"active": 0.0}, "--active"),
        ({"bundle_bytes": 100}, "--bs is 100, accepted: a multiple of 64"),
        ({"tokens": 1}, "--tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_its_option(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_job(msgspec.structs.replace(SMALL, **changes))  # type: ignore[arg-type]
