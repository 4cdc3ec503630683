from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.rates import RATES, flat_rates
from tidemill.runtime.planning.constants import COARSE, LAYER_OVERHEAD_S, TOKEN_OVERHEAD_S
from tidemill.runtime.planning.draft_prediction import (
    DraftPrediction,
    DraftWork,
    expected_tokens,
    predict_draft,
    work_of_model,
    work_of_planes,
)
from tidemill.runtime.planning.prediction import RunShape, predict
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.workload import Work, Workload, plan_workload
from tidemill.runtime.tuning.synthetic_model import plan_synthetic_model
from tidemill.storage.arena_plan import least_arena_bytes, plan_arena

MIB = 1 << 20
SHAPE = RunShape(prompt_tokens=100, chunk=64, position=0, io_depth=4, threads=2)
# Arithmetic that sixteen positions share: what a batch costs is what reading its weights costs.
FREE_BATCHES = msgspec.structs.replace(RATES.kernels, flop_per_s={batch: 20e9 * batch for batch in (2, 4, 8, 16)})


def workload(streamed_mib: int, ring_mib: int = 24) -> Workload:
    """1000 MiB of bf16, of which some are streamed."""
    layers = Work(
        read_sizes=(MIB,) * streamed_mib,
        decoded_bytes={"raw": streamed_mib * MIB} if streamed_mib else {},
        weight_bytes={"bf16": 900 * MIB},
        weights=450 * MIB,
    )
    head = Work(read_sizes=(), decoded_bytes={}, weight_bytes={"bf16": 100 * MIB}, weights=50 * MIB)
    return Workload(
        layers=layers,
        head=head,
        layer_count=10,
        load_sizes=(),
        row_bytes=0,
        ring_bytes=ring_mib * MIB if streamed_mib else 0,
        kv_bytes_per_position=1 << 16,
        attention_flop_per_pair=1 << 16,
    )


def drafts(acceptance: float, mib: int = 100) -> DraftWork:
    return DraftWork(kind="model", acceptance=acceptance, weight_bytes={"bf16": mib * MIB}, layer_count=2)


def best(work: Workload, draft: DraftWork, rates: MachineRates, length: int | None = None) -> DraftPrediction:
    plain_s = predict(work, rates, SHAPE).decode_s_per_token
    return predict_draft(
        work, draft, rates, SHAPE, plain_s=plain_s, lengths=range(1, 16) if length is None else (length,)
    )


def free_batches(flash_bytes_per_s: float) -> MachineRates:
    return msgspec.structs.replace(flat_rates(flash_bytes_per_s), kernels=FREE_BATCHES)


@given(acceptance=st.floats(0.0, 0.999), length=st.integers(1, 15))
def test_expected_tokens_are_those_of_the_closed_form(acceptance: float, length: int) -> None:
    expected = (1 - acceptance ** (length + 1)) / (1 - acceptance)
    assert expected_tokens(acceptance, length) == pytest.approx(expected)


def test_drafts_that_are_always_right_bring_one_token_more_than_they_draft() -> None:
    prediction = best(workload(900), drafts(1.0), free_batches(1e9), length=7)
    assert prediction.tokens_per_pass == 8
    assert prediction.streamed_bytes_per_token == 900 * MIB / 8


def test_a_pass_drafts_then_checks_beside_reading_what_was_not_read_ahead() -> None:
    rates = free_batches(1e9)
    p = best(workload(900), drafts(0.9), rates, length=4)
    lap_s = 100 * MIB / 20e9 + 2 * LAYER_OVERHEAD_S
    assert p.draft_s_per_token == pytest.approx(lap_s)
    assert p.ahead_s == pytest.approx(min(24 * MIB / 1e9, 4 * lap_s + TOKEN_OVERHEAD_S))
    assert p.pass_s == pytest.approx(4 * lap_s + 900 * MIB / 1e9 - p.ahead_s + TOKEN_OVERHEAD_S)
    assert p.check_s < p.io_s


def test_a_pass_is_bound_by_its_check_where_little_streams() -> None:
    rates = flat_rates(100e9)
    p = best(workload(10), drafts(0.9), rates, length=7)
    assert p.pass_s == pytest.approx(7 * p.draft_s_per_token + p.check_s + TOKEN_OVERHEAD_S)
    assert p.check_s >= 2 * 500 * MIB * 8 / 80e9, "eight positions at the rate of that batch"


@settings(deadline=None)
@given(acceptance=st.floats(0.05, 0.99), streamed=st.integers(0, 900), flash=st.floats(2e8, 1e10))
def test_no_length_beats_the_one_that_is_chosen(acceptance: float, streamed: int, flash: float) -> None:
    work, draft, rates = workload(streamed), drafts(acceptance), flat_rates(flash)
    chosen = best(work, draft, rates)
    rates_of = [best(work, draft, rates, length).decode_tokens_per_s for length in range(1, 16)]
    assert chosen.decode_tokens_per_s == pytest.approx(max(rates_of))


def test_surer_drafts_are_longer_and_bring_more() -> None:
    rates = free_batches(1e9)
    predictions = [best(workload(900), drafts(acceptance), rates) for acceptance in (0.2, 0.5, 0.8, 0.95)]
    lengths = [p.length for p in predictions]
    gains = [p.gain_ratio for p in predictions]
    assert lengths == sorted(lengths)
    assert gains == sorted(gains)
    assert lengths[-1] > lengths[0]


def test_a_draft_as_slow_as_the_model_gains_nothing_where_nothing_streams() -> None:
    assert best(workload(0), drafts(0.9, mib=1000), RATES).gain_ratio < 1


def test_attention_takes_each_drafts_and_each_checked_positions_time() -> None:
    work, draft = workload(0), replace(drafts(0.9), kv_bytes_per_position=1 << 12)
    plain_s = predict(work, RATES, SHAPE).decode_s_per_token
    near, far = (
        predict_draft(work, draft, RATES, replace(SHAPE, position=at), plain_s=plain_s, lengths=(3,))
        for at in (0, 1000)
    )
    more_s = 1000 * (3 * (1 << 12) + 4 * (1 << 16)) / RATES.dram_bytes_per_s
    assert far.pass_s - near.pass_s == pytest.approx(more_s)


def test_planes_draft_with_plane_0_of_layers_and_head_by_kernels_of_their_own_kind() -> None:
    manifest = plan_synthetic_model("bf16-planes", weight_bytes=20 * MIB)
    plan = plan_arena(manifest, least_arena_bytes(manifest, "plane-0"), lock_first="plane-0")
    work = plan_workload(manifest, plan)
    draft = work_of_planes(manifest, work, 0.9)
    assert draft.weight_bytes == {"bf16-planes" + COARSE: work.layers.weights + work.head.weights}
    assert draft.row_bytes == 0 < work.row_bytes, "the tied head lies in the arena"
    known = {"bf16-planes": 1e9}
    times = []
    for bytes_per_s in (known, {**known, "bf16-planes" + COARSE: 4e9}):
        kernels = msgspec.structs.replace(RATES.kernels, bytes_per_s=bytes_per_s)
        rates = msgspec.structs.replace(RATES, kernels=kernels)
        times.append(predict_draft(work, draft, rates, SHAPE, plain_s=1.0, lengths=(1,)).draft_s_per_token)
    more_s = sum(draft.weight_bytes.values()) * (1 / 1e9 - 1 / 4e9)
    assert times[0] - times[1] == pytest.approx(more_s)


def test_a_draft_model_is_computed_with_whole() -> None:
    own = workload(0)
    assert work_of_model(own, 0.5).weight_bytes == {"bf16": 1000 * MIB}
    assert work_of_model(own, 0.5).row_bytes == 0
