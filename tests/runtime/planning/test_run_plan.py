import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.rates import RATES
from tidemill.runtime.ledger import MIB, CeilingTooSmallError, Demands, Ledger, plan_ledger
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.run_plan import RunPlan, cap_flash, ceiling_range, plan_run, scale_flash, spread_ceilings
from tidemill.runtime.tuning.synthetic_model import plan_synthetic_model

MANIFEST = plan_synthetic_model("bf16", weight_bytes=200 * MIB)  # large enough that ceilings of whole MiB matter
DEMANDS = Demands(processes={"engine": 60 * MIB}, kv_bytes=MIB, activation_bytes=MIB, link_bytes=MIB, bounce_bytes=0)
SHAPE = RunShape(prompt_tokens=10, chunk=64, position=10, io_depth=4, threads=2)


def ledger_of(ceiling_bytes: int | None) -> Ledger:
    return plan_ledger(MANIFEST, DEMANDS, ceiling_bytes=ceiling_bytes, arena_bytes=None)


def plan(ceiling_bytes: int | None) -> RunPlan:
    return plan_run(MANIFEST, DEMANDS, RATES, SHAPE, ceiling_bytes=ceiling_bytes)


def test_the_range_goes_from_the_first_ceiling_with_a_plan_to_the_first_resident_one() -> None:
    smallest, resident = ceiling_range(ledger_of)
    with pytest.raises(CeilingTooSmallError):
        ledger_of(smallest - MIB)
    assert ledger_of(smallest).arena.ring_slots > 0
    assert ledger_of(resident - MIB).arena.ring_slots > 0
    assert ledger_of(resident).arena.ring_slots == 0


@given(st.integers(1, 1000), st.integers(0, 100_000), st.integers(2, 20))
def test_ceilings_are_spread_from_end_to_end(smallest: int, more: int, count: int) -> None:
    ceilings = spread_ceilings(smallest * MIB, (smallest + more) * MIB, count)
    assert ceilings[0] == smallest * MIB
    assert ceilings[-1] == (smallest + more) * MIB
    assert list(ceilings) == sorted(set(ceilings))
    assert len(ceilings) <= count


def test_the_curve_rises_from_the_smallest_ceiling_to_the_resident_model() -> None:
    curve = plan(None).curve
    assert curve[0].bottleneck == "flash"
    assert curve[-1].bottleneck == "compute"
    assert curve[-1].streamed_bytes_per_token == 0
    speeds = [point.decode_tokens_per_s for point in curve]
    assert speeds == sorted(speeds)
    assert speeds[-1] > 3 * speeds[0]


def test_a_point_of_the_curve_is_the_plan_of_its_ceiling() -> None:
    middle = plan(None).curve[4]
    assert plan(middle.ceiling_bytes).prediction.decode_tokens_per_s == middle.decode_tokens_per_s


def test_without_a_ceiling_nothing_is_streamed_and_no_drive_would_help() -> None:
    result = plan(None)
    assert result.prediction.reads_per_token == 0
    assert result.drives == ()
    assert (result.smallest_ceiling_bytes, result.resident_ceiling_bytes) == ceiling_range(ledger_of)


def test_where_the_model_streams_faster_drives_bring_more() -> None:
    smallest, _ = ceiling_range(ledger_of)
    result = plan(smallest)
    half, *faster = result.drives
    assert half.decode_tokens_per_s == pytest.approx(result.prediction.decode_tokens_per_s / 2)
    assert result.prediction.decode_tokens_per_s < faster[0].decode_tokens_per_s <= faster[-1].decode_tokens_per_s


def test_a_ceiling_that_is_too_small_is_refused_as_opening_would() -> None:
    with pytest.raises(CeilingTooSmallError, match="needs at least"):
        plan(61 * MIB)


def test_drives_are_scaled_and_capped_at_every_point() -> None:
    assert [p.bytes_per_s for p in scale_flash(RATES, 2.0).flash.points] == [1e9, 2e9, 2e9, 4e9]
    assert [p.bytes_per_s for p in cap_flash(RATES, 0.8e9).flash.points] == [0.5e9, 0.8e9, 0.8e9, 0.8e9]
