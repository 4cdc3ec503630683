import numpy as np
import pytest

from tests.contracts.preload_policy import CHANNELS, LAYERS, PreloadPolicyContract, seen
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.actors.predictor.policies.best_per_input import BestPerInputPolicy, choose_best
from tidemill.actors.predictor.policies.cross_layer import CrossLayerPolicy
from tidemill.actors.predictor.policies.gate_first import GateFirstPolicy
from tidemill.actors.predictor.policies.gated_low_rank import GatedLowRankPolicy, silu
from tidemill.actors.predictor.policies.low_rank import LowRankPolicy
from tidemill.actors.predictor.policies.oracle import OraclePolicy
from tidemill.actors.predictor.policies.policy import U32, InputKind, PreloadPolicy, Seen
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.previous_token import PreviousTokenPolicy
from tidemill.actors.predictor.policies.random_channels import RandomPolicy
from tidemill.actors.predictor.policies.scaled_cross_layer import ScaledCrossLayerPolicy


class Future:
    def active(self, position: int, layer: int, kind: InputKind) -> U32:
        return np.array([(position + layer) % 8], np.uint32)


def low_rank_map(outputs: int) -> LowRankPredictor:
    random = np.random.default_rng(0)
    inward, outward, bias = (random.standard_normal(shape) for shape in ((8, 3), (3, outputs), outputs))
    return LowRankPredictor(inward.astype(np.float32), outward.astype(np.float32), bias.astype(np.float32))


def make_low_rank() -> LowRankPolicy:
    pairs = [(source, target) for source in range(LAYERS) for target in range(source + 1, LAYERS)]
    return LowRankPolicy({("o", *pair): low_rank_map(8) for pair in pairs}, "gate_up")


def make_gated() -> GatedLowRankPolicy:
    pairs = [(source, target) for source in range(LAYERS) for target in range(source + 1, LAYERS)]
    maps = {pair: low_rank_map(16) for pair in pairs}
    return GatedLowRankPolicy(maps, maps, silu)


class TestCrossLayer(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return CrossLayerPolicy(CHANNELS)


class TestScaledCrossLayer(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return ScaledCrossLayerPolicy(CHANNELS, LAYERS, ("qkv", "gate_up"), decay=0.9, prior={})


class TestPreviousToken(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return PreviousTokenPolicy(CHANNELS)


class TestPopularity(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return PopularityPolicy(CHANNELS, LAYERS, decay=0.9, prior={})


class TestRandom(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return RandomPolicy(CHANNELS, seed=1)


class TestOracle(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return OraclePolicy(CHANNELS, Future())


class TestLowRank(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return make_low_rank()


class TestGatedLowRank(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return make_gated()


class TestGateFirst(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        return GateFirstPolicy()


class TestBestPerInput(PreloadPolicyContract):
    def make(self) -> PreloadPolicy:
        popular = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={})
        return BestPerInputPolicy({"qkv": CrossLayerPolicy(CHANNELS), "o": popular, "down": popular})


def test_cross_layer_scores_later_layers_by_this_layers_magnitudes() -> None:
    policy = CrossLayerPolicy(CHANNELS)
    values = np.array([0, -3, 1, 0, 0, 2, 0, 0], np.float32)
    policy.observe(Seen(1, "qkv", np.array([1, 5], np.uint32), values))
    assert policy.score(3, "qkv", 1).tolist() == np.abs(values).tolist()  # type: ignore[union-attr]
    assert policy.score(3, "gate_up", 1) is None  # another input says nothing of this one


def test_cross_layer_without_magnitudes_takes_the_active_channels_alike() -> None:
    policy = CrossLayerPolicy(CHANNELS)
    policy.observe(Seen(0, "o", np.array([2, 7], np.uint32), None))
    assert policy.score(1, "o", 0).tolist() == [0, 0, 1, 0, 0, 0, 0, 1]  # type: ignore[union-attr]


def test_cross_layer_forgets_the_position_before() -> None:
    policy = CrossLayerPolicy(CHANNELS)
    policy.observe(seen(0, "qkv", [1]))
    policy.begin_position(1)
    assert policy.score(1, "qkv", 0) is None


def test_scaled_cross_layer_corrects_for_the_mean_size_of_each_layers_channels() -> None:
    """The second layer has its even channels ten times as large as the first: they are what it will use."""
    random = np.random.default_rng(4)
    policy = ScaledCrossLayerPolicy(CHANNELS, LAYERS, ("qkv",), decay=0.9, prior={})
    sizes = np.array([10, 1] * 4, np.float32)
    none = np.zeros(0, np.uint32)
    for position in range(60):
        stream = random.standard_normal(8).astype(np.float32)
        policy.begin_position(position)
        policy.observe(Seen(0, "qkv", none, stream))
        scores = policy.score(1, "qkv", 0)
        policy.observe(Seen(1, "qkv", none, stream * sizes))
    assert scores is not None
    assert scores / scores.max() == pytest.approx(np.abs(stream * sizes) / np.abs(stream * sizes).max(), abs=0.3)
    assert np.argmax(scores) % 2 == 0
    assert policy.score(1, "o", 0) is None


def test_scaled_cross_layer_begins_with_the_means_of_a_calibration() -> None:
    prior = np.ones((LAYERS, 8), np.float32)
    prior[1, 3] = 100
    policy = ScaledCrossLayerPolicy(CHANNELS, LAYERS, ("qkv",), decay=0.9, prior={"qkv": prior})
    policy.observe(Seen(0, "qkv", np.zeros(0, np.uint32), np.ones(8, np.float32)))
    assert policy.score(1, "qkv", 0) == pytest.approx([1, 1, 1, 100, 1, 1, 1, 1], rel=1e-5)  # LEAST is added


def test_previous_token_scores_what_the_same_input_was_a_position_ago() -> None:
    policy = PreviousTokenPolicy(CHANNELS)
    policy.begin_position(0)
    policy.observe(Seen(2, "o", np.array([4], np.uint32), None))
    policy.begin_position(1)
    policy.observe(Seen(0, "o", np.array([1], np.uint32), None))
    assert np.flatnonzero(policy.score(2, "o", 0)).tolist() == [4]  # type: ignore[arg-type]
    policy.observe(Seen(2, "o", np.array([6], np.uint32), None))
    assert policy.score(2, "o", 2) is None  # this is no longer the position before


def test_popularity_counts_uses_and_forgets_by_its_decay() -> None:
    policy = PopularityPolicy(CHANNELS, LAYERS, decay=0.5, prior={})
    for channels in ([0, 1], [1], [2]):
        policy.observe(Seen(1, "qkv", np.array(channels, np.uint32), None))
    assert policy.score(1, "qkv", 0).tolist() == [0.25, 0.75, 1, 0, 0, 0, 0, 0]  # type: ignore[union-attr]


def test_popularity_begins_every_sequence_with_its_prior() -> None:
    prior = np.ones((LAYERS, 8), np.float32)
    policy = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={"qkv": prior})
    policy.observe(seen(1, "qkv", [3]))
    policy.begin_sequence()
    assert policy.score(1, "qkv", 0).tolist() == [1.0] * 8  # type: ignore[union-attr]
    assert prior.max() == 1.0


@pytest.mark.parametrize("decay", [0.0, 1.5, float("nan")])
def test_a_decay_that_makes_no_sense_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        PopularityPolicy(CHANNELS, LAYERS, decay=decay, prior={})
    with pytest.raises(ValueError, match="decay"):
        ScaledCrossLayerPolicy(CHANNELS, LAYERS, ("qkv",), decay=decay, prior={})


def test_random_scores_do_not_depend_on_the_order_of_calls() -> None:
    one, other = RandomPolicy(CHANNELS, seed=3), RandomPolicy(CHANNELS, seed=3)
    first = [one.score(layer, "down", 0) for layer in (1, 2)]
    second = [other.score(layer, "down", 0) for layer in (2, 1)]
    assert np.array_equal(first, second[::-1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], RandomPolicy(CHANNELS, seed=4).score(1, "down", 0))


def test_the_oracle_names_exactly_what_was_recorded() -> None:
    policy = OraclePolicy(CHANNELS, Future())
    policy.begin_position(5)
    assert np.flatnonzero(policy.score(2, "qkv", 0)).tolist() == [7]  # type: ignore[arg-type]


def test_the_gate_scores_down_of_its_own_layer_only() -> None:
    policy = GateFirstPolicy()
    policy.observe(Seen(1, "gate", np.zeros(0, np.uint32), np.full(16, -2, np.float32)))
    assert policy.score(1, "down", 1).tolist() == [2.0] * 16  # type: ignore[union-attr]
    assert policy.score(2, "down", 1) is None
    assert policy.score(1, "o", 1) is None


def test_low_rank_needs_published_values_and_a_trained_pair() -> None:
    policy, values = make_low_rank(), np.arange(8, dtype=np.float32)
    policy.observe(Seen(0, "gate_up", np.zeros(0, np.uint32), values))
    assert policy.score(1, "o", 0) == pytest.approx(low_rank_map(8).scores(values[None])[0])
    assert policy.score(1, "qkv", 0) is None
    policy.observe(Seen(1, "gate_up", np.zeros(0, np.uint32), None))
    assert policy.score(2, "o", 1) is None


def test_gated_low_rank_follows_the_product_of_gate_and_up() -> None:
    random = np.random.default_rng(1)
    gate, up = random.standard_normal((2, 8, 16))
    features = random.standard_normal(8).astype(np.float32)
    inward, bias = np.eye(8, dtype=np.float32), np.zeros(16, np.float32)
    gates, ups = (LowRankPredictor(inward, matrix.astype(np.float32), bias) for matrix in (gate, up))
    policy = GatedLowRankPolicy({(0, 1): gates}, {(0, 1): ups}, silu)
    policy.observe(Seen(0, "gate_up", np.zeros(0, np.uint32), features))
    product = features @ gate / (1 + np.exp(-features @ gate)) * (features @ up)
    assert policy.score(1, "down", 0) == pytest.approx(np.abs(product), rel=1e-3, abs=1e-4)


def test_silu_is_0_where_the_exponential_would_overflow() -> None:
    assert silu(np.array([-1e4, 0, 20], np.float32)) == pytest.approx([0, 0, 20], abs=1e-6)


def test_the_combination_asks_each_kinds_own_member_and_tells_a_shared_one_once() -> None:
    popular = PopularityPolicy(CHANNELS, LAYERS, decay=1.0, prior={})
    policy = BestPerInputPolicy({"qkv": CrossLayerPolicy(CHANNELS), "o": popular, "down": popular})
    policy.observe(seen(1, "o", [3]))
    assert policy.score(1, "o", 0).tolist() == [0, 0, 0, 1, 0, 0, 0, 0]  # type: ignore[union-attr]
    assert policy.score(1, "gate_up", 0) is None


def test_the_best_policy_of_each_kind_is_the_one_that_found_most() -> None:
    recalls: dict[tuple[str, InputKind], float] = {
        ("a", "o"): 0.5, ("b", "o"): 0.7, ("a", "qkv"): 0.9, ("b", "qkv"): 0.9,
    }  # fmt: skip
    assert choose_best(recalls) == {"qkv": "a", "o": "b"}
