from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.active import BEHAVIOUR, COSTS, SHAPE, flash_rates
from tests.fakes.pipeline import Pipeline, PipelineRun
from tidemill.runtime.planning.active import (
    ActiveBehaviour,
    ActiveChoice,
    ActivePrediction,
    ActiveShape,
    predict_active,
)

CHOICE = ActiveChoice(group=4, cache_share=0.4, preload_share=1.0)
RATES = flash_rates(0.2e9, 0.8e9)


def simulated_s(
    shape: ActiveShape, behaviour: ActiveBehaviour, choice: ActiveChoice, rates: tuple[float, float], jitter: float
) -> float:
    """The mean token of the same run as discrete events. `rates`: of demands and preloads."""
    pipeline = Pipeline(
        layers=shape.layer_count,
        group=choice.group,
        active_bytes=shape.layer_bytes * (1 - behaviour.sparsity),
        hit_rate=behaviour.hit_rate(choice.cache_share),
        recall=behaviour.recalls[choice.group] * choice.preload_share,
        precision=behaviour.precisions[choice.group],
        demand_rate=rates[0],
        preload_rate=rates[1],
        chunk_bytes=COSTS.preload_request_bytes,
        compute_s=shape.layer_bytes * (1 - behaviour.sparsity) / 20e9 + shape.layer_overhead_s,
        fixed_s=shape.fixed_s,
        jitter=jitter,
    )
    tokens = PipelineRun(pipeline, preload=choice.preload_share > 0, gate=None, seed=11).tokens(10)
    return sum(tokens) / len(tokens)


@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("rates", [(0.1e9, 0.4e9), (0.4e9, 1.6e9), (1.5e9, 3e9), (20e9, 40e9)])
@pytest.mark.parametrize("cache_share", [0.0, 0.35, 0.7])
def test_prediction_is_within_15_percent_of_the_simulated_pipeline(
    group: int, rates: tuple[float, float], cache_share: float
) -> None:
    free = replace(COSTS, request_s=0.0, layer_s=0.0)
    for preload_share in (0.0, 0.5, 1.0):
        choice = ActiveChoice(group=group, cache_share=cache_share, preload_share=preload_share)
        predicted = predict_active(SHAPE, BEHAVIOUR, choice, flash_rates(*rates), free).token_s
        simulated = simulated_s(SHAPE, BEHAVIOUR, choice, rates, jitter=0.2)
        assert predicted == pytest.approx(simulated, rel=0.15), f"at preload share {preload_share}"


def test_the_parts_add_up_to_the_token() -> None:
    found = predict_active(SHAPE, BEHAVIOUR, CHOICE, RATES, COSTS)
    parts = (found.compute_s, found.on_demand_s, found.preload_s, found.management_s, found.fixed_s)
    assert min(parts) > 0
    assert found.token_s == pytest.approx(sum(parts))


def test_without_misses_a_token_is_compute_and_bookkeeping() -> None:
    all_cached = replace(BEHAVIOUR, hit_rates=((0.0, 1.0), (1.0, 1.0)))
    found = predict_active(SHAPE, all_cached, CHOICE, RATES, COSTS)
    layer_s = SHAPE.layer_bytes * 0.5 / 20e9 + SHAPE.layer_overhead_s
    assert found.on_demand_s == found.preload_s == found.on_demand_bytes == 0
    assert found.compute_s == pytest.approx(16 * layer_s)
    assert found.management_s == pytest.approx(12 * COSTS.layer_s)


def test_demand_share_is_that_of_the_paper_when_the_preload_is_hidden() -> None:
    hidden = replace(BEHAVIOUR, recalls={4: 0.8}, precisions={4: 0.8}, hit_rates=((0.0, 0.75), (1.0, 0.75)))
    found = predict_active(SHAPE, hidden, CHOICE, flash_rates(1e9, 100e9), COSTS)
    assert found.hidden_ratio == 1.0
    active = 12 * SHAPE.layer_bytes * 0.5
    assert found.on_demand_bytes == pytest.approx(active * (1 - 0.75) * (1 - 0.8))  # (1 - hr)(1 - si)


def test_what_of_a_preload_is_not_hidden_is_demanded() -> None:
    slow = flash_rates(0.05e9, 0.1e9)
    found = predict_active(SHAPE, BEHAVIOUR, CHOICE, slow, COSTS)
    without = predict_active(SHAPE, BEHAVIOUR, replace(CHOICE, preload_share=0.0), slow, COSTS)
    assert found.hidden_ratio < 0.2
    useful = found.preload_bytes * BEHAVIOUR.precisions[4]
    assert found.on_demand_bytes + useful == pytest.approx(without.on_demand_bytes)


def test_memory_counts_the_locked_group_cache_buffers_and_everything_resident() -> None:
    found = predict_active(SHAPE, BEHAVIOUR, CHOICE, RATES, COSTS)
    missing = SHAPE.layer_bytes * 0.5 * (1 - BEHAVIOUR.hit_rate(0.4))
    planned = missing * BEHAVIOUR.recalls[4] / BEHAVIOUR.precisions[4]
    layers = 4 * SHAPE.layer_bytes + 12 * SHAPE.layer_bytes * 0.4 + 4 * (missing + planned)
    resident = SHAPE.resident_bytes + SHAPE.kv_bytes + SHAPE.activation_bytes
    assert found.memory_bytes == round(layers + resident)


def test_a_model_of_one_group_is_all_locked_and_reads_nothing() -> None:
    found = predict_active(replace(SHAPE, layer_count=4), BEHAVIOUR, CHOICE, RATES, COSTS)
    assert found.on_demand_bytes == found.preload_bytes == found.management_s == 0
    assert found.memory_bytes >= 4 * SHAPE.layer_bytes


def test_bigger_groups_read_bigger_requests() -> None:
    """The drive's rate at 64 KiB is half of that at 1 MiB; bundles of 64 KiB, not merged further."""
    same = replace(BEHAVIOUR, recalls={1: 0.7, 4: 0.7}, precisions={1: 0.7, 4: 0.7})
    shape, costs = replace(SHAPE, bundle_bytes=64 << 10), replace(COSTS, preload_request_bytes=1)
    slow = flash_rates(0.2e9, 0.4e9)
    one, four = (
        predict_active(shape, same, replace(CHOICE, group=group), slow, costs).hidden_ratio for group in (1, 4)
    )
    assert four > one


@settings(max_examples=20)
@given(few=st.floats(0, 1), more=st.floats(0, 1), rate=st.floats(1e7, 1e10))
def test_a_bigger_cache_is_never_slower(few: float, more: float, rate: float) -> None:
    small, large = sorted((few, more))

    def token(share: float) -> ActivePrediction:
        return predict_active(SHAPE, BEHAVIOUR, replace(CHOICE, cache_share=share), flash_rates(rate, 2 * rate), COSTS)

    assert token(large).on_demand_s <= token(small).on_demand_s * (1 + 1e-9)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (replace(CHOICE, cache_share=1.1), "shares of 0 to 1"),
        (replace(CHOICE, preload_share=-0.1), "shares of 0 to 1"),
        (replace(CHOICE, group=3), "measured for N in \\[1, 2, 4, 8\\]"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(choice: ActiveChoice, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        predict_active(SHAPE, BEHAVIOUR, choice, RATES, COSTS)


def test_a_sparsity_of_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity 1\.0"):
        predict_active(SHAPE, replace(BEHAVIOUR, sparsity=1.0), CHOICE, RATES, COSTS)


def test_a_demand_that_reads_several_bundles_at_once_is_faster() -> None:
    shape, costs = replace(SHAPE, bundle_bytes=32 << 10), replace(COSTS, request_s=0.0)
    one, merged = (
        predict_active(shape, replace(BEHAVIOUR, merged=run), CHOICE, RATES, costs).on_demand_s for run in (1.0, 8.0)
    )
    assert merged < one


def test_kernels_of_another_kind_have_their_own_rate() -> None:
    kernels = msgspec.structs.replace(RATES.kernels, bytes_per_s={"bf16": 20e9, "raw-bundles": 5e9})
    rates = msgspec.structs.replace(RATES, kernels=kernels)
    slow = predict_active(replace(SHAPE, kind="raw-bundles"), BEHAVIOUR, CHOICE, rates, COSTS)
    assert slow.compute_s > 3 * predict_active(SHAPE, BEHAVIOUR, CHOICE, rates, COSTS).compute_s
