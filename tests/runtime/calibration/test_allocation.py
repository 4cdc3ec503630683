import pytest

from tidemill.actors.compute.selection.operators import OPERATORS, OPERATORS_OF, SPARSITY_MAX, InputKind
from tidemill.actors.compute.selection.topk import KINDS
from tidemill.runtime.calibration.allocation import LossCurve, allocate

WEIGHTS: dict[InputKind, int] = {"qkv": 300, "o": 200, "gate_up": 1000, "down": 500}


def curves(**factors: float) -> dict[InputKind, LossCurve]:
    """Losses that rise with the square of the sparsity."""
    levels = (0.25, 0.5, 0.75, 0.9)
    return {
        kind: LossCurve(levels, tuple(factors.get(kind, 1.0) * WEIGHTS[kind] * s * s for s in levels)) for kind in KINDS
    }


def test_every_allotment_leaves_out_the_share_that_it_names() -> None:
    for allotment in allocate(curves(gate_up=7.0), WEIGHTS):
        left_out = sum(WEIGHTS[kind] * allotment.operators[OPERATORS_OF[kind][0]] for kind in KINDS)
        assert left_out / sum(WEIGHTS.values()) == pytest.approx(allotment.sparsity, abs=1e-9)


def test_inputs_that_lose_alike_are_thinned_alike() -> None:
    for allotment in allocate(curves(), WEIGHTS):
        shares = allotment.operators.values()
        assert max(shares) - min(shares) <= 0.26  # the curve's pieces are 0.25 wide, and inside one each price is equal


def test_what_loses_most_is_thinned_least() -> None:
    half = next(a for a in allocate(curves(gate_up=2.0, down=0.5), WEIGHTS) if a.sparsity == 0.5)
    assert half.operators["gate"] < half.operators["q"]
    assert half.operators["down"] > half.operators["q"]


def test_operators_of_one_input_go_together_and_none_goes_beyond_the_largest_sparsity() -> None:
    allotments = allocate(curves(o=0.001), WEIGHTS)
    assert [a.sparsity for a in allotments] == pytest.approx([0.05 * (i + 1) for i in range(18)])
    for allotment in allotments:
        assert set(allotment.operators) == set(OPERATORS)
        assert allotment.operators["q"] == allotment.operators["k"] == allotment.operators["v"]
        assert allotment.operators["gate"] == allotment.operators["up"]
        assert max(allotment.operators.values()) <= SPARSITY_MAX


def test_more_is_never_thinned_less() -> None:
    allotments = allocate(curves(qkv=3.0), WEIGHTS)
    for operator in OPERATORS:
        shares = [a.operators[operator] for a in allotments]
        assert shares == sorted(shares)


def test_a_loss_that_falls_with_sparsity_is_taken_for_noise() -> None:
    curve = LossCurve((0.3, 0.6), (0.2, 0.1))
    assert curve.at(0.6) == curve.at(0.3) == 0.2
    assert curve.at(0.15) == pytest.approx(0.1)
