import numpy as np
import pytest

from tests.fakes.draft_machine import DraftMachine
from tidemill.actors.compute.drafting.pass_times import PassTimes
from tidemill.actors.compute.drafting.passes import Pass
from tidemill.actors.compute.drafting.spec import DraftKind

LENGTHS = (1, 2, 4, 7, 11)


def learned(machine: DraftMachine, kind: DraftKind, lengths: tuple[int, ...] = LENGTHS) -> PassTimes:
    times, rng = PassTimes(), np.random.default_rng(0)
    for _ in range(12):
        times.observe(machine.run("none", 0, 0, 0, rng))
        for length in lengths:
            times.observe(machine.run(kind, length, 0, 0, rng))
    return times


def true_ns(machine: DraftMachine, kind: DraftKind) -> list[float]:
    return [float(machine.run(kind, length, 0, 0, None).total_ns) for length in range(16)]


@pytest.mark.parametrize("stream", [0.0, 150.0, 500.0])
@pytest.mark.parametrize("kind", ["ngram", "planes"])
def test_predictions_are_those_of_the_machine(stream: float, kind: DraftKind) -> None:
    machine = DraftMachine(base=30, position=8, draft={"ngram": 0.01, "planes": 20}, stream=stream, ahead=90)
    predicted = learned(machine, kind).predict(kind, most=15)
    # 3 % noise of single passes, of which the figures are medians; most where both sides of a maximum meet
    assert predicted == pytest.approx(true_ns(machine, kind), rel=0.1)


def test_one_accident_moves_nothing() -> None:
    machine = DraftMachine(base=30, position=8, draft={"planes": 20}, noise=0.0, outliers=0.0)
    times = learned(machine, "planes")
    before = times.predict("planes", most=15)
    times.observe(Pass(kind="planes", drafted=4, accepted=0, positions=5, draft_ns=10**10, check_ns=10**11, stall_ns=0))
    times.observe(Pass(kind="none", drafted=0, accepted=0, positions=1, draft_ns=0, check_ns=10**11, stall_ns=10**10))
    assert times.predict("planes", most=15) == pytest.approx(before, rel=1e-4)  # the machine's times are rounded


def test_before_any_draft_a_drafted_token_is_taken_to_cost_a_position() -> None:
    times = PassTimes()
    assert times.plain_ns == 0.0
    times.observe(Pass(kind="none", drafted=0, accepted=0, positions=1, draft_ns=0, check_ns=1000, stall_ns=0))
    assert times.plain_ns == 1000
    assert times.predict("ngram", most=2) == pytest.approx([1000, 1250, 1500])
    assert times.predict("planes", most=2) == pytest.approx([1000, 2250, 3500])


def test_before_any_draft_streaming_is_taken_to_go_on_beside_it() -> None:
    times = PassTimes()
    times.observe(Pass(kind="none", drafted=0, accepted=0, positions=1, draft_ns=0, check_ns=1000, stall_ns=900))
    assert times.predict("ngram", most=15) == pytest.approx([1000] * 16)
    assert times.predict("planes", most=2) == pytest.approx([1000] * 3)


def test_times_are_above_zero_and_never_fall_below_a_single_position() -> None:
    """Whatever is observed: here more positions take less time, and drafting none."""
    times = PassTimes()
    for positions in (1, 2, 9, 16):
        for _ in range(5):
            times.observe(
                Pass(
                    kind="model" if positions > 1 else "none",
                    drafted=positions - 1,
                    accepted=0,
                    positions=positions,
                    draft_ns=0,
                    check_ns=1000 // positions,
                    stall_ns=0,
                )
            )
    predicted = times.predict("model", most=15)
    assert min(predicted) >= 0.5 * 1000  # the least ratio between what was seen and what can be
    nothing = PassTimes()
    nothing.observe(Pass(kind="none", drafted=0, accepted=0, positions=1, draft_ns=0, check_ns=0, stall_ns=0))
    assert min(nothing.predict("planes", most=15)) >= 1.0
