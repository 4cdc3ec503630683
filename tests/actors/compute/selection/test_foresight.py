import numpy as np

from tests.fakes.models import TINY
from tests.fakes.selections import neuron
from tidemill.actors.compute.selection.foresight import Foresight

X = np.random.default_rng(2).standard_normal((1, TINY.hidden_size)).astype(np.float32)


def test_with_the_input_that_a_layer_will_have_it_expects_what_the_layer_selects_the_likeliest_first() -> None:
    policy = neuron(TINY, 0.5)
    expected = Foresight(policy.predictors, policy.thresholds).expect(1, X)
    assert sorted(expected.tolist()) == policy.select(1, "neuron", X).union().tolist()
    scores = policy.predictors[1].scores(X)[0][expected]
    assert len(expected) > 1
    assert np.all(np.diff(scores) <= 0)
