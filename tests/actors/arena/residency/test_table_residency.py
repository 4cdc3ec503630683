from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.actors.arena.residency.oracle import OracleTable
from tidemill.actors.arena.residency.choose_policy import (
    RESIDENCY_KINDS,
    ResidencyChoice,
    ResidencyKind,
    choose_policy,
)
from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.actors.arena.residency.least_recently_used import LeastRecentlyUsed
from tidemill.actors.arena.residency.outcomes import Settlement
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.recent_window import RecentWindow
from tidemill.actors.arena.residency.slot_stack import SlotStack
from tidemill.actors.arena.residency.table_residency import TableResidency

BUNDLES = 9


class Step(NamedTuple):
    action: str
    active: set[int]
    preloaded: set[int]
    quota: int


SOME = st.sets(st.integers(0, BUNDLES - 1))
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([*["visit"] * 4, "dense visit", "quota", "sequence", "drop", "abandon", "abandon visit"]),
        SOME,
        st.one_of(st.just(set[int]()), SOME),
        st.integers(0, BUNDLES),
    ),
    max_size=20,
)


def ids(*bundles: int) -> Ids:
    return np.array(sorted(bundles), np.uint32)


class Arena:
    """A table with a pool that has just enough slots: one visit's bundles on top of the cached ones."""

    def __init__(self, table: TableResidency) -> None:
        self.table = table
        self.pool = SlotStack(100, 2 * BUNDLES)

    def stage(self, bundles: Ids) -> dict[int, int]:
        slots = self.pool.take(bundles.size)
        self.table.stage(bundles, slots)
        return dict(zip(bundles.tolist(), slots.tolist(), strict=True))

    def free(self, settlement: Settlement) -> tuple[set[int], set[int], set[int]]:
        self.pool.give_back(settlement.freed)
        return set(settlement.admitted.tolist()), set(settlement.evicted.tolist()), set(settlement.freed.tolist())

    def visit(self, *active: int) -> Settlement:
        self.stage(self.table.visit(ids(*active)).missing)
        settlement = self.table.settle()
        self.free(settlement)
        return settlement


def new_arena(kind: ResidencyKind, quota: int, *, window: int = 2, popularity: list[int] | None = None) -> Arena:
    hot = np.array(popularity or [0] * BUNDLES, np.int64)
    return Arena(TableResidency(choose_policy(ResidencyChoice(kind, window), BUNDLES, hot), BUNDLES, quota))


def replay_visit(arena: Arena, oracle: OracleTable, step: Step) -> None:
    oracle.staged |= arena.stage(arena.table.absent(ids(*step.preloaded)))
    learns = step.action != "dense visit"
    visit = arena.table.visit(ids(*step.active), learns=learns)
    known = oracle.cached | oracle.staged
    assert visit.slots.tolist() == [known.get(bundle, -1) for bundle in sorted(step.active)]
    assert visit.missing.tolist() == oracle.visit(step.active, learns=learns)
    oracle.staged |= arena.stage(visit.missing)
    arena.table.validate()
    if step.action == "abandon visit":
        freed = arena.table.abandon()
        assert set(freed.tolist()) == set(oracle.staged.values())
        oracle.staged = {}
        arena.pool.give_back(freed)
    else:
        wasted = set(oracle.staged) - step.active
        settlement = arena.table.settle()
        assert set(settlement.wasted.tolist()) == wasted
        assert arena.free(settlement) == oracle.settle()


def replay(arena: Arena, oracle: OracleTable, step: Step) -> None:
    match step.action:
        case "quota":
            oracle.staged |= arena.stage(arena.table.absent(ids(*step.preloaded)))  # they wait for the next visit
            assert arena.free(arena.table.set_quota(step.quota)) == oracle.set_quota(step.quota)
        case "sequence":
            arena.table.new_sequence()
            oracle.new_sequence()
        case "drop":
            oracle.staged |= arena.stage(arena.table.absent(ids(*step.preloaded)))
            lost = step.active & (set(oracle.cached) | set(oracle.staged))
            freed = arena.table.drop(ids(*lost))
            assert set(freed.tolist()) == oracle.drop(lost)
            arena.pool.give_back(freed)
        case "abandon":
            oracle.staged |= arena.stage(arena.table.absent(ids(*step.preloaded)))
            freed = arena.table.abandon()
            assert set(freed.tolist()) == set(oracle.staged.values())
            oracle.staged = {}
            arena.pool.give_back(freed)
        case _:
            replay_visit(arena, oracle, step)


@pytest.mark.parametrize("kind", RESIDENCY_KINDS)
@settings(max_examples=25, deadline=None)
@given(
    quota=st.integers(0, BUNDLES),
    window=st.integers(1, 4),
    popularity=st.lists(st.integers(0, 3), min_size=BUNDLES, max_size=BUNDLES),
    steps=STEPS,
)
def test_every_policy_does_what_plain_dicts_do(
    kind: ResidencyKind, quota: int, window: int, popularity: list[int], steps: list[Step]
) -> None:
    arena = new_arena(kind, quota, window=window, popularity=popularity)
    oracle = OracleTable(kind, quota, window, popularity)
    for step in steps:
        replay(arena, oracle, step)
        arena.table.validate()
        arena.pool.validate()
        assert arena.table.cached.tolist() == sorted(oracle.cached)
        slots = arena.table.slots_of(arena.table.cached).tolist()
        assert slots == [oracle.cached[bundle] for bundle in sorted(oracle.cached)]
        assert arena.pool.free_count == arena.pool.count - len(oracle.cached) - len(oracle.staged)


@pytest.mark.parametrize("kind", RESIDENCY_KINDS)
@settings(max_examples=10, deadline=None)
@given(quota=st.integers(0, BUNDLES), steps=st.lists(st.tuples(SOME, SOME), max_size=20))
def test_what_was_preloaded_never_changes_what_is_cached(
    kind: ResidencyKind, quota: int, steps: list[tuple[set[int], set[int]]]
) -> None:
    plain, preloading = new_arena(kind, quota), new_arena(kind, quota)
    for active, preloaded in steps:
        preloading.stage(preloading.table.absent(ids(*preloaded)))
        for arena in (plain, preloading):
            arena.visit(*active)
        assert plain.table.cached.tolist() == preloading.table.cached.tolist()
    assert plain.table.counts.hits == preloading.table.counts.hits


def test_lfu_admits_only_what_is_used_more_than_the_least_used_cached_bundle() -> None:
    arena = new_arena("lfu", 2)
    arena.visit(0, 1)
    first = arena.visit(2)  # used once, as 0 and 1: no better
    assert (first.admitted.tolist(), first.refused.tolist()) == ([], [2])
    second = arena.visit(0, 2)  # used twice: better than 1
    assert (second.admitted.tolist(), second.evicted.tolist()) == ([2], [1])


def test_a_new_sequence_lets_the_first_uses_displace_what_the_last_one_needed_often() -> None:
    arena = new_arena("lfu", 1)
    for _ in range(5):
        arena.visit(0)
    assert arena.visit(1).refused.tolist() == [1]
    arena.table.new_sequence()
    assert arena.table.cached.tolist() == [0]
    assert arena.visit(1).admitted.tolist() == [1]


def test_the_window_gives_back_slots_that_its_last_tokens_did_not_use_even_with_room_left() -> None:
    arena = new_arena("window", BUNDLES, window=2)
    arena.visit(0, 1, 2)
    assert arena.visit(2, 3).evicted.tolist() == []
    assert arena.visit(3).evicted.tolist() == [0, 1]
    assert arena.table.cached.tolist() == [2, 3]


def test_lru_displaces_what_lfu_keeps() -> None:
    lru, lfu = new_arena("lru", 2), new_arena("lfu", 2)
    for arena in (lru, lfu):
        for active in ((0, 1), (0, 1), (2,), (3,)):
            arena.visit(*active)
    assert lru.table.cached.tolist() == [2, 3]
    assert lfu.table.cached.tolist() == [0, 1]


def test_the_hot_set_is_loaded_at_start_and_stays() -> None:
    arena = new_arena("hot-set", 3, popularity=[0, 5, 1, 5, 0, 0, 9, 1, 0])
    hottest = arena.table.initial()
    assert hottest.tolist() == [1, 3, 6]
    arena.table.place(hottest, arena.pool.take(hottest.size))
    for active in ((0, 2), (2,), (2, 6)):
        assert arena.visit(*active).evicted.size == 0
    assert arena.table.cached.tolist() == [1, 3, 6]
    assert arena.table.counts.hits == 1


def test_counts_tell_cached_preloaded_missed_and_wasted_apart() -> None:
    arena = new_arena("lru", 2)
    arena.visit(0, 1)
    arena.stage(ids(2, 3))
    arena.visit(0, 2, 4)
    counts = arena.table.counts
    assert (counts.visits, counts.active, counts.hits, counts.preload_hits, counts.missed) == (2, 5, 1, 1, 3)
    assert (counts.admitted, counts.evicted, counts.refused, counts.wasted) == (3, 1, 1, 1)


def test_a_lower_quota_evicts_the_least_used_and_a_higher_one_takes_more() -> None:
    arena = new_arena("lfu", 3)
    arena.visit(0, 1, 2)
    arena.visit(1)
    settlement = arena.table.set_quota(1)
    arena.free(settlement)
    assert sorted(settlement.evicted.tolist()) == [0, 2]
    arena.table.set_quota(2)
    assert arena.visit(4).admitted.tolist() == [4]


def test_a_dense_visit_fills_room_and_displaces_nothing_that_the_context_used() -> None:
    arena = new_arena("lfu", 3)
    arena.visit(4, 6)
    arena.stage(arena.table.visit(ids(*range(BUNDLES)), learns=False).missing)
    settlement = arena.table.settle()
    arena.free(settlement)
    assert (settlement.admitted.tolist(), settlement.evicted.tolist()) == ([0], [])
    assert arena.visit(5).evicted.tolist() == [0]


def test_a_dropped_bundle_is_missing_at_the_next_visit() -> None:
    arena = new_arena("lfu", 3)
    arena.visit(1, 2, 3)
    arena.stage(ids(7))
    arena.pool.give_back(arena.table.drop(ids(2, 7)))
    arena.table.validate()
    assert arena.table.visit(ids(1, 2, 3, 7)).missing.tolist() == [2, 7]


def test_unstaged_bundles_are_absent_again() -> None:
    arena = new_arena("lfu", 2)
    staged = arena.stage(ids(3, 5))
    assert arena.table.unstage(ids(5)).tolist() == [staged[5]]
    arena.table.validate()
    assert arena.table.absent(ids(3, 5)).tolist() == [5]
    with pytest.raises(ValueError, match="only staged"):
        arena.table.unstage(ids(5))


def test_calls_out_of_order_are_refused() -> None:
    arena = new_arena("lfu", 2)
    with pytest.raises(RuntimeError, match="no visit"):
        arena.table.settle()
    arena.table.visit(ids(1))
    with pytest.raises(RuntimeError, match="not settled"):
        arena.table.visit(ids(1))
    with pytest.raises(RuntimeError, match="between visits"):
        arena.table.set_quota(1)
    with pytest.raises(ValueError, match="between visits"):
        arena.table.place(ids(2), arena.pool.take(1))
    arena.stage(ids(1))
    with pytest.raises(ValueError, match="not absent"):
        arena.stage(ids(1))


@pytest.mark.parametrize("active", [[2, 1], [1, 1], [0, BUNDLES]])
def test_active_bundles_that_do_not_rise_or_exist_are_refused(active: list[int]) -> None:
    with pytest.raises(ValueError, match="must rise and lie below 9"):
        new_arena("lfu", 2).table.visit(np.array(active, np.uint32))


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="name a trace with --hot-set"):
        choose_policy(ResidencyChoice("hot-set"), 4)
    with pytest.raises(ValueError, match="name a trace with --hot-set"):
        choose_policy(ResidencyChoice("hot-set"), 4, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="1 or more"):
        RecentWindow(4, 0)
    with pytest.raises(ValueError, match="0 or more"):
        TableResidency(ContextualLfu(4), 4, -1)


def test_the_ledger_is_told_what_the_bookkeeping_takes() -> None:
    table = TableResidency(LeastRecentlyUsed(1000), 1000, 10)
    assert table.bookkeeping_bytes == 1000 * (4 + 1 + 8 + 4)
