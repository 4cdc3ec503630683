import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.preload_policy import CHANNELS, LAYERS
from tidemill.actors.predictor.policies.cross_layer import CrossLayerPolicy
from tidemill.actors.predictor.policies.policy import InputKind, Seen
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.selection import (
    bundle_budget,
    choose_channels,
    group_score,
    plan_group_preload,
)


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
    (plan,) = plan_group_preload(policy, range(2, 4), 1, {"o": 1})
    assert (plan.kind, plan.preload.channels.tolist()) == ("o", [4])


def test_no_layer_of_a_group_outvotes_the_others() -> None:
    policy = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={})
    for _ in range(100):
        policy.observe(uses(2, "o", 0, 1))
    policy.observe(uses(3, "o", 5))
    scores = group_score(policy, range(2, 4), "o", 1)
    assert scores is not None
    assert np.argmax(scores) == 5


def test_inputs_that_nothing_is_known_of_or_without_a_budget_are_left_out() -> None:
    policy = CrossLayerPolicy(CHANNELS)
    policy.observe(uses(1, "qkv", 2))
    policy.observe(uses(1, "down", 2))
    plans = plan_group_preload(policy, range(2, 4), 1, {"qkv": 3, "o": 3, "down": 0})
    assert [plan.kind for plan in plans] == ["qkv"]


def test_group_0_is_refused() -> None:
    with pytest.raises(ValueError, match="lock it"):
        plan_group_preload(CrossLayerPolicy(CHANNELS), range(2), 0, {"qkv": 1})


def test_a_group_that_is_known_already_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layers 2\.\.3 are not above layer 2"):
        plan_group_preload(CrossLayerPolicy(CHANNELS), range(2, 4), 2, {"qkv": 1})


def test_a_budget_of_bytes_counts_a_channel_for_all_layers_of_the_group() -> None:
    assert bundle_budget(4096, 512, 4) == 2
    assert bundle_budget(-1, 512, 4) == 0
