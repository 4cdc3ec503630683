"""Quotas follow uses, within their pool, and hold what they held."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.actors.arena.residency.moving_quotas import RULES, MovingQuotas, QuotaRules, plan_quotas
from tidemill.actors.arena.residency.slot_stack import SlotStack
from tidemill.actors.arena.residency.table_residency import TableResidency

CACHES = st.lists(
    st.integers(1, 9).flatmap(
        lambda count: st.tuples(st.lists(st.integers(0, 4), min_size=count, max_size=count), st.integers(0, count))
    ),
    min_size=1,
    max_size=5,
)


def kept_uses(uses: Sequence[Sequence[int]], quotas: Sequence[int]) -> int:
    """Of the bundles that caches of these quotas hold at best."""
    return sum(sum(sorted(of_cache)[len(of_cache) - quota :]) for of_cache, quota in zip(uses, quotas, strict=True))


@settings(max_examples=200, deadline=None)
@given(CACHES)
def test_the_plan_holds_what_is_used_most_and_moves_no_more_than_it_must(
    caches: Sequence[tuple[list[int], int]],
) -> None:
    uses, quotas = [of_cache for of_cache, _ in caches], [quota for _, quota in caches]
    planned = plan_quotas([np.array(of_cache, np.int64) for of_cache in uses], quotas)
    assert sum(planned) == sum(quotas)
    assert all(0 <= quota <= len(of_cache) for quota, of_cache in zip(planned, uses, strict=True))
    best = sorted(use for of_cache in uses for use in of_cache)[sum(map(len, uses)) - sum(quotas) :]
    assert kept_uses(uses, planned) == sum(best)
    if kept_uses(uses, quotas) == sum(best):
        assert planned == quotas  # as good as any


class Pool:
    """Tables of one size in one pool, with a visit to each a token."""

    def __init__(self, counts: Sequence[int], quotas: Sequence[int], rules: QuotaRules = RULES) -> None:
        self.tables = [TableResidency(ContextualLfu(n), n, q) for n, q in zip(counts, quotas, strict=True)]
        self.slots = SlotStack(0, sum(quotas) + max(counts))  # the reserve of one visit, and no more
        for table in self.tables:
            initial = table.initial()
            table.place(initial, self.slots.take(initial.size))
        self.moving = MovingQuotas(self.tables, [0] * len(counts), rules)
        self.total = sum(quotas)

    @property
    def quotas(self) -> list[int]:
        return [table.quota for table in self.tables]

    def visit(self, place: int, active: Sequence[int], *, learns: bool = True) -> None:
        table = self.tables[place]
        missing = table.visit(np.array(active, np.uint32), learns=learns).missing
        table.stage(missing, self.slots.take(missing.size))
        self.slots.give_back(table.settle().freed)
        if learns:
            for move in self.moving.settled(place):
                self.slots.give_back(move.freed)
        self.check()

    def token(self, *actives: Sequence[int]) -> None:
        for place, active in enumerate(actives):
            self.visit(place, active)

    def check(self) -> None:
        assert sum(self.quotas) == self.total
        assert sum(table.cached_count for table in self.tables) <= self.total
        for table in self.tables:
            table.validate()
        self.slots.validate()


def test_quota_goes_to_the_cache_whose_bundles_are_used_most() -> None:
    """After four tokens, when the last visit of the fourth is over."""
    pool = Pool([16, 16], [8, 8])
    for token in range(3):
        pool.token(range(12), [token])
        assert pool.quotas == [8, 8]
    pool.visit(0, range(12))
    assert pool.quotas == [8, 8]
    pool.visit(1, [3])
    assert pool.quotas == [12, 4]
    assert pool.moving.moved_bundles == 4


@pytest.mark.parametrize("seed", range(8))
def test_a_pool_never_holds_more_than_before(seed: int) -> None:
    """`check` looks after every visit, and the stack has no slot more than quotas and the largest visit need."""
    rng = np.random.default_rng(seed)
    counts = [16, 24, 16, 24]
    pool = Pool(counts, [16, 9, 3, 5], QuotaRules(2, 4))
    for token in range(40):
        sizes = [1, 24, 1 + token % 16, 12]
        chosen = [rng.choice(n, size, replace=False) for n, size in zip(counts, sizes, strict=True)]
        pool.token(*(sorted(active.tolist()) for active in chosen))
        if token % 15 == 14:
            pool.moving.new_sequence()
            for table in pool.tables:
                table.new_sequence()
    assert pool.quotas[0] == 16  # it held its whole table from the start
    assert pool.moving.moved_bundles > 0


def test_moves_come_when_a_sequence_has_doubled_and_then_every_so_many_tokens() -> None:
    """Bundles of one cache are used twice and then never again, which moves quota at every look."""
    pool = Pool([300, 300], [1, 200], QuotaRules(2, 8))
    moved = []
    for token in range(1, 34):
        before = pool.quotas
        pool.token(range(6 * (token // 2), 6 * (token // 2) + 6), [])
        if pool.quotas != before:
            moved.append(token)
    assert moved == [2, 4, 8, 16, 24, 32]


def test_a_cache_that_is_taught_nothing_keeps_its_quota() -> None:
    """An input whose operators stay whole is visited densely, beside others of its pool that select."""
    pool = Pool([16, 16, 16], [8, 8, 8])
    for _ in range(9):
        pool.visit(0, range(16), learns=False)
        pool.visit(1, range(12))
        pool.visit(2, [0])
    assert pool.quotas == [8, 12, 4]


def test_a_new_sequence_keeps_quotas_until_it_has_taught_others() -> None:
    pool = Pool([16, 16], [8, 8])
    for _ in range(4):
        pool.token(range(12), [0])
    assert pool.quotas == [12, 4]
    pool.moving.new_sequence()
    for table in pool.tables:
        table.new_sequence()
    for _ in range(3):
        pool.token([0], range(12))
    assert pool.quotas == [12, 4]
    pool.token([0], range(12))
    assert pool.quotas == [4, 12]


def test_a_token_that_was_given_up_is_none() -> None:
    """It ends with the last visit of a whole one."""
    pool = Pool([16, 16], [8, 8])
    for _ in range(9):
        pool.visit(0, range(12))
    pool.visit(1, [0])
    assert pool.quotas == [8, 8]
    for _ in range(3):
        pool.token(range(12), [0])
    assert pool.quotas == [12, 4]


def test_pools_keep_to_themselves() -> None:
    tables = [TableResidency(ContextualLfu(8), 8, 4) for _ in range(4)]
    moving = MovingQuotas(tables, [0, 1, 0, 1], QuotaRules(2, 2))
    for _ in range(2):
        for place, active in enumerate([range(6), [], [], range(8)]):
            table = tables[place]
            missing = table.visit(np.array(active, np.uint32)).missing
            table.stage(missing, np.arange(missing.size, dtype=np.int32))
            table.settle()
            moving.settled(place)
    assert [table.quota for table in tables] == [6, 0, 2, 8]
