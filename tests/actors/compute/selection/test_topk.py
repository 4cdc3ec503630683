import numpy as np
import pytest

from tests.fakes.models import TINY
from tests.fakes.selections import topk
from tidemill.actors.compute.selection.operators import OPERATORS, OPERATORS_OF, Operator
from tidemill.actors.compute.selection.topk import TopKSelection

X = np.random.default_rng(0).standard_normal((6, TINY.hidden_size)).astype(np.float32)


def test_masks_of_one_input_are_nested() -> None:
    selected = topk(TINY, {"q": 0.3, "k": 0.9, "v": 0.6}).select(1, "qkv", X)
    q, k, v = (selected.mask_of(operator) for operator in ("q", "k", "v"))
    assert not (k & ~v).any()
    assert not (v & ~q).any()
    assert np.array_equal(selected.union(), np.flatnonzero(q.any(axis=0)))


def test_operators_with_one_threshold_share_one_mask() -> None:
    selected = topk(TINY, {"q": 0.5, "k": 0.5, "v": 0.4}).select(0, "qkv", X)
    assert selected.masks[0] is selected.masks[1]
    assert selected.masks[0] is not selected.masks[2]


@pytest.mark.parametrize("only", OPERATORS)
def test_each_operator_can_be_switched_alone(only: Operator) -> None:
    thresholds = {operator: np.full(TINY.layer_count, 0.5, np.float32) for operator in OPERATORS}
    policy = TopKSelection(thresholds, [only])
    (kind,) = policy.kinds
    selected = policy.select(2, kind, X)
    for operator in OPERATORS_OF[kind]:
        assert selected.mask_of(operator).all() == (operator != only)


def test_layers_have_thresholds_of_their_own() -> None:
    rising = {operator: np.arange(TINY.layer_count, dtype=np.float32) for operator in OPERATORS}
    policy = TopKSelection(rising, OPERATORS)
    shares = [policy.select(layer, "o", X).masks[0].mean() for layer in range(TINY.layer_count)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0 > shares[1]


def test_equal_magnitudes_fall_on_the_same_side() -> None:
    x = np.array([[0.5, -0.5, 0.5, -0.5]], np.float32)
    assert topk(TINY, {"o": 0.5}).select(0, "o", x).masks[0].all()
    assert not topk(TINY, {"o": 0.5000001}).select(0, "o", x).masks[0].any()
