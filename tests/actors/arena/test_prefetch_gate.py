from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fakes.pipeline import Pipeline, PipelineRun
from tidemill.actors.arena.prefetch_gate import DeviceLoad, GateRules, PrefetchGate

MIB = 1 << 20
RULES = GateRules(in_flight_bytes=MIB, demand_rate=0.5e9, preload_rate=1e9)
IDLE = DeviceLoad(demands_waiting=0, preload_in_flight_bytes=0, busy_ratio=0.0, token_s=0.5)
PIPELINE = Pipeline(
    layers=16, group=4, active_bytes=4 * MIB, hit_rate=0.6, recall=0.7, precision=0.7, demand_rate=0.4e9,
    preload_rate=1.5e9, chunk_bytes=256 << 10, compute_s=1.5e-3,
)  # fmt: skip


def gate_after(*token_seconds: float) -> PrefetchGate:
    gate = PrefetchGate(RULES)
    for seconds in token_seconds:
        gate.token_ended(seconds)
    return gate


def test_the_first_token_runs_without_prefetch_the_second_with_it() -> None:
    assert not gate_after().is_open
    assert gate_after(1.0).is_open
    assert not gate_after(1.0, 1.0).is_open


def test_what_won_stays_on_and_what_lost_goes_off() -> None:
    assert gate_after(1.0, 0.9, 1.0).phase == "on"
    assert gate_after(1.0, 1.1, 1.0).phase == "off"


def test_drift_between_the_compared_tokens_cancels_out() -> None:
    assert gate_after(1.4, 1.25, 1.0).phase == "off"  # faster than the one before, but so was the one after
    assert gate_after(1.4, 1.15, 1.0).phase == "on"


def test_each_loss_doubles_the_wait_until_the_next_trial() -> None:
    gate, waits = PrefetchGate(RULES), []
    for _ in range(3):
        waits.append(tokens_off(gate, lost_ratio=0.01))
    assert waits == [32, 64, 128]


def test_a_trial_that_lost_much_is_waited_off_before_the_next() -> None:
    assert tokens_off(PrefetchGate(RULES), lost_ratio=3.0) == 300


def tokens_off(gate: PrefetchGate, *, lost_ratio: float) -> int:
    """How long the gate stays closed after a lost trial."""
    for seconds in (1.0, 1.0 + lost_ratio, 1.0):
        gate.token_ended(seconds)
    count = 0
    while gate.phase == "off":
        gate.token_ended(1.0)
        count += 1
    return count


def test_trials_that_win_and_are_contradicted_twice_are_not_believed() -> None:
    gate = gate_after(1.0, 0.9, 1.0, *[1.1] * 8)
    assert gate.phase == "before"
    for seconds in (1.0, 0.9, 1.0, *[1.1] * 16):
        gate.token_ended(seconds)
    assert gate.phase == "off"


def test_tokens_that_became_slower_than_without_call_for_a_new_comparison() -> None:
    gate = gate_after(1.0, 0.9, 1.0, *[1.1] * 7)
    assert gate.phase == "on"  # the first comparison won: it is watched over 8 tokens
    gate.token_ended(1.1)
    assert gate.phase == "before"


def test_one_slow_token_does_not() -> None:
    assert gate_after(1.0, 0.9, 1.0, *[0.9] * 7, 1.5, *[0.9] * 7).phase == "on"


def test_it_yields_to_a_waiting_demand_and_never_exceeds_its_share_in_flight() -> None:
    gate = gate_after(1.0)
    assert gate.allowed_bytes(IDLE) == MIB
    assert gate.allowed_bytes(replace(IDLE, demands_waiting=1)) == 0
    assert gate.allowed_bytes(replace(IDLE, preload_in_flight_bytes=MIB - 10)) == 10
    assert gate.allowed_bytes(replace(IDLE, preload_in_flight_bytes=2 * MIB)) == 0


def test_a_token_that_takes_longer_than_those_without_prefetch_gets_no_more_of_it() -> None:
    gate = gate_after(1.0)
    assert gate.allowed_bytes(replace(IDLE, token_s=1.05)) == MIB
    assert gate.allowed_bytes(replace(IDLE, token_s=1.15)) == 0


def test_waste_is_borne_while_the_device_idles_and_not_when_it_is_busy() -> None:
    gate = gate_after(1.0)
    gate.count_useful(10 * MIB)
    gate.count_wasted(30 * MIB)
    assert gate.allowed_bytes(replace(IDLE, busy_ratio=0.3)) > 0  # 11/41 / 0.5 GB/s = 0.54 / 1 GB/s
    assert gate.allowed_bytes(replace(IDLE, busy_ratio=0.6)) == 0
    assert (gate.useful_bytes, gate.wasted_bytes) == (10 * MIB, 30 * MIB)


def test_waste_fades_so_that_it_is_tried_again() -> None:
    gate = gate_after(1.0, 0.9, 1.0)
    gate.count_wasted(30 * MIB)
    busy = replace(IDLE, busy_ratio=0.9)
    assert gate.allowed_bytes(busy) == 0
    for _ in range(20):
        gate.token_ended(0.9)
    assert gate.allowed_bytes(busy) > 0


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        PrefetchGate(replace(RULES, demand_rate=0.0))


def seconds(pipeline: Pipeline, *, preload: bool, gated: bool, tokens: int = 300) -> float:
    rules = replace(RULES, demand_rate=pipeline.demand_rate, preload_rate=pipeline.preload_rate)
    gate = PrefetchGate(rules) if gated else None
    return sum(PipelineRun(pipeline, preload=preload, gate=gate, seed=3).tokens(tokens))


HARMFUL = {
    "costs core time": replace(PIPELINE, chunk_core_s=1e-3, recall=0.1, precision=0.1),
    "evicts what is needed": replace(PIPELINE, pollution=0.8, precision=0.2),
    "big reads on a slow device": replace(PIPELINE, chunk_bytes=4 * MIB, preload_rate=0.2e9, demand_rate=0.2e9),
    "never right": replace(PIPELINE, recall=0.02, precision=0.02, chunk_bytes=2 * MIB, pollution=0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMFUL)
def test_prefetch_that_loses_time_is_noticed_within_2_percent(name: str) -> None:
    without = seconds(HARMFUL[name], preload=False, gated=False)
    ungated = seconds(HARMFUL[name], preload=True, gated=False)
    assert ungated > 1.04 * without, "the case must be one that prefetch loses"
    assert seconds(HARMFUL[name], preload=True, gated=True) <= 1.02 * without


@pytest.mark.slow
def test_prefetch_that_wins_keeps_most_of_its_gain() -> None:
    without = seconds(PIPELINE, preload=False, gated=False)
    ungated = seconds(PIPELINE, preload=True, gated=False)
    assert ungated < 0.8 * without
    assert without - seconds(PIPELINE, preload=True, gated=True) > 0.9 * (without - ungated)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, phases=[Phase.generate], derandomize=True)
@given(
    demand=st.floats(0.05e9, 2e9), faster=st.floats(1, 6), chunk=st.sampled_from([256 << 10, MIB, 4 * MIB]),
    recall=st.floats(0.02, 0.95), precision=st.floats(0.05, 1.0), hit_rate=st.floats(0, 0.95),
    compute_s=st.floats(1e-4, 5e-3), pollution=st.floats(0, 1), core_s=st.floats(0, 5e-4),
)  # fmt: skip
def test_at_no_rate_is_a_gated_run_slower_than_one_without_by_more_than_2_percent(
    demand: float, faster: float, chunk: int, recall: float, precision: float, hit_rate: float, compute_s: float,
    pollution: float, core_s: float,
) -> None:  # fmt: skip
    pipeline = replace(
        PIPELINE, demand_rate=demand, preload_rate=demand * faster, chunk_bytes=chunk, recall=recall,
        precision=precision, hit_rate=hit_rate, compute_s=compute_s, pollution=pollution, chunk_core_s=core_s,
        layers=4, group=1,
    )  # fmt: skip
    without = seconds(pipeline, preload=False, gated=False)
    assert seconds(pipeline, preload=True, gated=True) <= 1.02 * without


@pytest.mark.slow
def test_a_device_that_becomes_slow_while_running_is_noticed() -> None:
    gate = PrefetchGate(RULES)
    PipelineRun(PIPELINE, preload=True, gate=gate, seed=1).tokens(40)
    assert gate.phase == "on"
    worse = HARMFUL["evicts what is needed"]
    # The tokens that are watched, and one trial, may lose: few of 200.
    later = sum(PipelineRun(worse, preload=True, gate=gate, seed=1).tokens(200))
    assert later <= 1.05 * seconds(worse, preload=False, gated=False)
