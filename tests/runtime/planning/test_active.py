from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.active import (
    BUNDLE,
    CHUNK,
    DEMANDS,
    DENSE,
    LAYER_ACTIVE,
    LAYERS,
    MIB,
    gathering,
    reads_of,
    use_of,
    without_preload,
)
from tests.fakes.pipeline import Pipeline, PipelineRun
from tests.fakes.rates import RATES
from tidemill.runtime.planning.active import gather_rates, overlap, predict_active
from tidemill.runtime.planning.constants import CHOICE_BUNDLE_S, CHOICE_S, VISIT_BUNDLE_S, VISIT_S
from tidemill.runtime.planning.rates import GatherRates

KERNELS = 20e9
OVERHEAD_S = VISIT_S + CHOICE_S + (VISIT_BUNDLE_S + CHOICE_BUNDLE_S) * LAYER_ACTIVE / DEMANDS / BUNDLE  # of a visit


@pytest.mark.parametrize("group", [1, 4, 8])
@pytest.mark.parametrize("rate", [0.1e9, 0.4e9, 1.5e9, 20e9])
@pytest.mark.parametrize("hit_rate", [0.0, 0.55, 0.9])
@pytest.mark.parametrize("recall", [0.0, 0.3, 0.6])
def test_prediction_is_within_15_percent_of_the_simulated_pipeline(
    group: int, rate: float, hit_rate: float, recall: float
) -> None:
    use = use_of(group=group, hit_rate=hit_rate, recall=recall, precision=0.7)
    predicted = predict_active([use], DENSE, gathering(1 / rate), 4).decode_s_per_token
    pipeline = Pipeline(
        layers=LAYERS,
        group=group,
        active_bytes=LAYER_ACTIVE,
        hit_rate=hit_rate,
        recall=recall,
        precision=0.7,
        demand_rate=rate,
        preload_rate=rate,
        chunk_bytes=CHUNK,
        compute_s=LAYER_ACTIVE / KERNELS + DEMANDS * OVERHEAD_S,
        fixed_s=DENSE.compute_s,
        jitter=0.2,
    )
    tokens = PipelineRun(pipeline, preload=recall > 0, gate=None, seed=11).tokens(10)
    assert predicted == pytest.approx(sum(tokens) / len(tokens), rel=0.15)


def test_the_parts_add_up_to_the_token() -> None:
    p = predict_active([use_of(group=4, hit_rate=0.5, recall=0.5, precision=0.7)], DENSE, gathering(1e-9), 4)
    assert p.stall_s_per_token + p.compute_s_per_token + p.management_s_per_token == pytest.approx(p.decode_s_per_token)
    assert p.visits_s + p.demand_s + p.wait_s == pytest.approx(p.stall_s_per_token)
    assert min(p.visits_s, p.demand_s, p.wait_s) > 0


def test_without_misses_a_token_is_compute_and_messages() -> None:
    p = predict_active([use_of(group=4, hit_rate=1.0, recall=0.0, precision=1.0)], DENSE, gathering(1e-9), 4)
    assert p.demand_s == p.wait_s == p.io_s_per_token == p.flash_bytes_per_token == 0
    assert p.compute_s_per_token == pytest.approx(DENSE.compute_s + LAYERS * LAYER_ACTIVE / KERNELS)
    assert p.hit_rate == p.read_amplification == 1.0


def test_what_of_a_preload_is_not_hidden_is_demanded() -> None:
    use = use_of(group=4, hit_rate=0.5, recall=0.6, precision=0.6)
    slow = gathering(1 / 0.05e9)
    p, without = (predict_active([u], DENSE, slow, 4) for u in (use, without_preload(use)))
    assert p.hidden_ratio < 0.3
    assert p.demanded_bytes + p.preloaded_bytes * 0.6 == pytest.approx(without.demanded_bytes)


def test_more_reads_for_the_same_bundles_take_longer_and_count_as_amplification() -> None:
    use = without_preload(use_of(group=1, hit_rate=0.5, recall=0.0, precision=1.0))
    demand = replace(use.demand, read_bytes=2 * use.demand.read_bytes)
    plain, wide = (
        predict_active([replace(use, demand=d, left=d)], DENSE, gathering(1e-9), 4) for d in (use.demand, demand)
    )
    assert wide.demand_s == pytest.approx(2 * plain.demand_s)
    assert wide.read_amplification == pytest.approx(2 * plain.read_amplification) == pytest.approx(2.0)


def test_what_streams_through_the_ring_bounds_the_token_and_delays_demands() -> None:
    use = without_preload(use_of(group=1, hit_rate=0.5, recall=0.0, precision=1.0))
    alone = predict_active([use], DENSE, gathering(1e-9), 4)
    little = replace(DENSE, ring_s=alone.compute_s_per_token / 10, ring_read_s=1e-3, ring_bytes=MIB)
    much = replace(DENSE, ring_s=10.0, ring_read_s=1e-3, ring_bytes=MIB)
    assert predict_active([use], little, gathering(1e-9), 4).wait_s > 0
    assert predict_active([use], much, gathering(1e-9), 4).decode_s_per_token == pytest.approx(10 + alone.demand_s)


@settings(max_examples=20)
@given(few=st.floats(0, 1), more=st.floats(0, 1), rate=st.floats(1e7, 1e10))
def test_more_hits_are_never_slower(few: float, more: float, rate: float) -> None:
    small, large = (
        predict_active(
            [use_of(group=1, hit_rate=hits, recall=0.0, precision=1.0)], DENSE, gathering(1 / rate), 4
        ).decode_s_per_token
        for hits in sorted((few, more))
    )
    assert large <= small * (1 + 1e-9)


def test_kernels_of_another_kind_have_their_own_rate() -> None:
    use = use_of(group=1, hit_rate=1.0, recall=0.0, precision=1.0)
    fast, slow = (predict_active([replace(use, kind=kind)], DENSE, RATES, 4) for kind in ("bf16", "f32"))
    assert slow.compute_s_per_token > fast.compute_s_per_token


def test_a_throttle_bounds_bytes_and_leaves_the_cost_of_reads() -> None:
    gathers = GatherRates(depth=4, read_s=1e-3, byte_s=1e-9, bundle_s=0.0, bytes_per_s_max=1e6)
    assert gathers.seconds(1, 1e6, 1) == pytest.approx(1.0)
    assert gathers.seconds(10_000, 1e6, 1) == pytest.approx(10.001)


def test_without_a_measurement_small_reads_cost_what_the_drive_says_of_larger_ones() -> None:
    found = gather_rates(RATES, 1)
    larger_s = ((1 << 20) / 1e9 - (1 << 16) / 0.5e9) / ((1 << 20) - (1 << 16))
    assert found.byte_s == pytest.approx(larger_s)
    assert found.read_s == pytest.approx((1 << 16) / 0.5e9 - larger_s * (1 << 16))


def test_nothing_planned_is_all_hidden() -> None:
    assert overlap(0.0, 1e-3, 0.0, 4) == (1.0, 0.0)
    assert overlap(1.0, 0.0, 1e-3, 4) == (0.0, 0.0)


def test_reads_are_never_cut_short() -> None:
    hidden, wait_s = overlap(planned_s=0.1, between_s=1.5e-3, read_s=1e-3, demands=10)
    assert hidden == pytest.approx(10 * 2e-3 / 0.1)
    assert wait_s == pytest.approx(10 * 0.5e-3)
    assert reads_of(CHUNK, CHUNK).requests == 1
