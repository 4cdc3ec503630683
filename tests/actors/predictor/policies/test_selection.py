import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.preload_policy import CHANNELS, LAYERS
from tidemill.actors.predictor.policies.cross_layer import CrossLayerPolicy
from tidemill.actors.predictor.policies.policy import InputKind, Seen
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.selection import choose_channels, group_score


@given(scores=st.lists(st.integers(-3, 3), min_size=1, max_size=40), budget=st.integers(-1, 45))
def test_the_best_positive_scores_are_chosen_and_of_equal_ones_the_lower_channel(
    scores: list[int], budget: int
) -> None:
    chosen = choose_channels(np.array(scores, np.float32), budget)
    ranked = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))
    assert chosen.channels.tolist() == sorted(ranked[: max(0, budget)])
    assert chosen.scores.tolist() == [scores[i] for i in chosen.channels]


def uses(layer: int, kind: InputKind, *channels: int) -> Seen:
    return Seen(layer, kind, np.array(channels, np.uint32), None)


def test_a_group_shares_the_channels_that_most_of_its_layers_use() -> None:
    policy = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={})
    policy.observe(uses(2, "o", 1, 4))
    policy.observe(uses(3, "o", 4, 6))
    scores = group_score(policy, range(2, 4), "o", 1)
    assert scores is not None
    assert choose_channels(scores, 1).channels.tolist() == [4]


def test_no_layer_of_a_group_outvotes_the_others() -> None:
    policy = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={})
    for _ in range(100):
        policy.observe(uses(2, "o", 0, 1))
    policy.observe(uses(3, "o", 5))
    scores = group_score(policy, range(2, 4), "o", 1)
    assert scores is not None
    assert np.argmax(scores) == 5


def test_a_group_that_nothing_is_known_of_has_no_score() -> None:
    policy = CrossLayerPolicy(CHANNELS)
    policy.observe(uses(1, "qkv", 2))
    assert group_score(policy, range(2, 4), "qkv", 1) is not None
    assert group_score(policy, range(2, 4), "o", 1) is None
