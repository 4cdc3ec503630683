import numpy as np

from tests.fakes.models import TINY
from tests.fakes.selections import neuron

X = np.random.default_rng(2).standard_normal((9, TINY.hidden_size)).astype(np.float32)


def test_neurons_are_chosen_by_their_score() -> None:
    policy = neuron(TINY, 0.5)
    predictor = policy.predictors[1]
    scores = X.astype(np.float64) @ predictor.inward @ predictor.outward + predictor.bias
    clear = np.abs(scores - 0.5) > 1e-3
    mask = policy.select(1, "neuron", X).masks[0]
    assert np.array_equal(mask[clear], scores[clear] >= 0.5)
    assert 0.1 < mask.mean() < 0.9


def test_gate_up_and_down_share_one_mask() -> None:
    selected = neuron(TINY, 0.5).select(0, "neuron", X)
    assert selected.operators == ("gate", "up", "down")
    assert selected.masks[0] is selected.masks[1] is selected.masks[2]


def test_a_positions_scores_have_the_same_bits_in_any_batch() -> None:
    predictor = neuron(TINY, 0.5, rank=16).predictors[0]
    alone = np.concatenate([predictor.scores(X[i : i + 1]) for i in range(len(X))])
    assert np.array_equal(predictor.scores(X), alone)


def test_without_a_threshold_every_neuron_is_chosen() -> None:
    assert neuron(TINY, -np.inf).select(2, "neuron", X).masks[0].all()
