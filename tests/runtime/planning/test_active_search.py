from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.fakes.active import BEHAVIOUR, COSTS, MIB, SHAPE, flash_rates
from tidemill.runtime.planning.active import ActiveBehaviour, ActiveChoice, predict_active
from tidemill.runtime.planning.active_search import (
    Candidate,
    Machine,
    NoActivePlanError,
    largest_cache_share,
    plan_active,
)

SPARSE = replace(BEHAVIOUR, sparsity=0.7, hit_rates=((0.0, 0.0), (0.25, 0.6), (0.5, 0.85), (1.0, 1.0)))
CANDIDATES = (
    Candidate(behaviour=replace(BEHAVIOUR, sparsity=0.0, hit_rates=((0.0, 0.0), (1.0, 1.0))), perplexity_ratio=1.0),
    Candidate(behaviour=BEHAVIOUR, perplexity_ratio=1.2),
    Candidate(behaviour=SPARSE, perplexity_ratio=2.0),
)
WHOLE = SHAPE.layer_count * SHAPE.layer_bytes


def machine(ceiling_mib: int, small: float = 0.2e9, large: float = 0.8e9) -> Machine:
    return Machine(rates=flash_rates(small, large), costs=COSTS, ceiling_bytes=ceiling_mib * MIB)


def brute_force_s(behaviour: ActiveBehaviour, given: Machine) -> float:
    """The fastest feasible token over a grid of everything."""
    shares = np.linspace(0, 1, 81)
    times = [np.inf]
    for group, cache, preload in product(behaviour.recalls, shares, np.linspace(0, 1, 11)):
        choice = ActiveChoice(group=group, cache_share=float(cache), preload_share=float(preload))
        found = predict_active(SHAPE, behaviour, choice, given.rates, given.costs)
        if found.memory_bytes <= given.ceiling_bytes:
            times.append(found.token_s)
    return float(min(times))


@pytest.mark.slow
@pytest.mark.parametrize(("ceiling", "rates"), [(320, (0.1e9, 1e9)), (400, (1e9, 2e9)), (480, (0.2e9, 0.8e9))])
def test_the_search_is_as_fast_as_the_best_of_a_fine_grid(ceiling: int, rates: tuple[float, float]) -> None:
    given = machine(ceiling, *rates)
    found = plan_active(SHAPE, [Candidate(behaviour=BEHAVIOUR, perplexity_ratio=1.0)], given, 1.0)
    assert found.prediction.memory_bytes <= given.ceiling_bytes
    assert found.prediction.token_s <= 1.02 * brute_force_s(BEHAVIOUR, given)


def test_by_the_ceiling_the_least_sparsity_that_fits_is_chosen() -> None:
    needs_half = (WHOLE // 2 + SHAPE.resident_bytes + SHAPE.kv_bytes + SHAPE.activation_bytes) // MIB + 1
    assert plan_active(SHAPE, CANDIDATES, machine(needs_half), None).behaviour.sparsity == 0.5
    assert plan_active(SHAPE, CANDIDATES, machine(needs_half - 2), None).behaviour.sparsity == 0.7
    assert plan_active(SHAPE, CANDIDATES, machine(2 * WHOLE // MIB), None).behaviour.sparsity == 0.0


@pytest.mark.slow
def test_a_floor_on_quality_takes_the_fastest_that_keeps_it() -> None:
    given = machine(400)
    assert plan_active(SHAPE, CANDIDATES, given, 1.5).behaviour.sparsity == 0.5
    assert plan_active(SHAPE, CANDIDATES, given, 3.0).behaviour.sparsity == 0.7
    assert plan_active(SHAPE, CANDIDATES, given, 1.0).behaviour.sparsity == 0.0


def test_long_groups_pay_where_small_reads_are_slow_and_short_ones_where_recall_is_lost() -> None:
    """64 layers: a locked group of them is cheap."""
    shape = replace(SHAPE, layer_count=64, layer_bytes=8 * MIB)
    costs = replace(COSTS, preload_request_bytes=1, request_s=0.0)
    steep = Machine(rates=flash_rates(0.02e9, 2e9), costs=costs, ceiling_bytes=440 * MIB)
    flat = Machine(rates=flash_rates(1e9, 1e9), costs=costs, ceiling_bytes=440 * MIB)
    only = [Candidate(behaviour=BEHAVIOUR, perplexity_ratio=1.0)]
    assert plan_active(shape, only, flat, 1.0).choice.group == 1
    assert plan_active(shape, only, steep, 1.0).choice.group > 1


def test_prefetch_that_is_always_wrong_is_not_planned() -> None:
    wrong = replace(BEHAVIOUR, recalls={1: 1e-3, 4: 1e-3}, precisions={1: 1e-3, 4: 1e-3})
    plan = plan_active(SHAPE, [Candidate(behaviour=wrong, perplexity_ratio=1.0)], machine(400), 1.0)
    assert plan.choice.preload_share == 0.0


def test_the_cache_takes_what_the_ceiling_leaves() -> None:
    given = machine(400)
    share = largest_cache_share(SHAPE, BEHAVIOUR, given, 4, 1.0)
    assert share is not None
    used, more = (
        predict_active(
            SHAPE,
            BEHAVIOUR,
            ActiveChoice(group=4, cache_share=at, preload_share=1.0),
            given.rates,
            COSTS,
        ).memory_bytes
        for at in (share, share + 1e-4)
    )
    assert used <= given.ceiling_bytes < more
    assert largest_cache_share(SHAPE, BEHAVIOUR, machine(2048), 4, 1.0) == 1.0
    assert largest_cache_share(SHAPE, BEHAVIOUR, machine(64), 4, 1.0) is None


@pytest.mark.parametrize(
    ("ceiling", "worst", "said"),
    [(64, 3.0, "needs .* bytes"), (150, None, "raise --ram"), (400, 0.9, "decode exactly")],
)
def test_what_cannot_be_planned_says_what_would_do(ceiling: int, worst: float | None, said: str) -> None:
    with pytest.raises(NoActivePlanError, match=said):
        plan_active(SHAPE, CANDIDATES, machine(ceiling), worst)


def test_without_a_calibration_there_is_no_plan() -> None:
    with pytest.raises(NoActivePlanError, match="calibrate"):
        plan_active(SHAPE, [], machine(400), None)
