import numpy as np

from tests.fakes.models import TINY
from tests.fakes.selections import gate


def test_up_and_down_share_the_neurons_whose_gate_reaches_the_threshold() -> None:
    x = np.array([[0.2, -0.3, 0.1, 0.0]], np.float32)
    selected = gate(TINY, 0.2).select(0, "gate", x)
    assert selected.operators == ("up", "down")
    assert selected.masks[0] is selected.masks[1]
    assert selected.masks[0].tolist() == [[True, True, False, False]]
    assert selected.union().tolist() == [0, 1]


def test_a_run_of_neurons_is_judged_as_it_is_in_the_whole() -> None:
    x = np.random.default_rng(1).standard_normal((3, TINY.ff_size)).astype(np.float32)
    policy = gate(TINY, 0.7)
    whole = policy.select(3, "gate", x).masks[0]
    assert np.array_equal(policy.select(3, "gate", x[:, 10:30]).masks[0], whole[:, 10:30])
