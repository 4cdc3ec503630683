"""What every preload policy keeps."""

from collections.abc import Sequence

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, INPUT_KINDS, InputKind, PreloadPolicy, Seen, SeenKind

LAYERS = 4
CHANNELS: dict[InputKind, int] = {"qkv": 8, "o": 8, "gate_up": 8, "down": 16}


def seen(layer: int, kind: SeenKind, active: Sequence[int]) -> Seen:
    values = np.full(16 if kind in ("down", "gate") else 8, 0.1, np.float32)
    values[list(active)] = 1.0
    return Seen(layer, kind, np.array(sorted(active), np.uint32), values)


class PreloadPolicyContract:
    def make(self) -> PreloadPolicy:
        raise NotImplementedError

    def test_equal_observations_give_equal_scores(self) -> None:
        first, second = _replay(self.make()), _replay(self.make())
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)

    def test_scores_are_finite_and_of_all_channels(self) -> None:
        for (_, _, kind), scores in _replay(self.make()).items():
            assert scores.shape == (CHANNELS[kind],)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()

    def test_a_sequence_after_another_is_predicted_as_if_it_were_the_first(self) -> None:
        policy = self.make()
        first = _replay(policy)
        policy.begin_sequence()
        second = _replay(policy)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)

    def test_scoring_does_not_change_what_is_scored_next(self) -> None:
        policy = self.make()
        _replay(policy)
        for kind in INPUT_KINDS:
            first, second = (policy.score(LAYERS - 1, kind, LAYERS - 2) for _ in range(2))
            assert (first is None and second is None) or np.array_equal(first, second)  # type: ignore[arg-type]


def _replay(policy: PreloadPolicy) -> dict[tuple[int, int, InputKind], F32]:
    """All scores of three positions, by (position, target layer, kind)."""
    random = np.random.default_rng(9)
    found: dict[tuple[int, int, InputKind], F32] = {}
    for position in range(3):
        policy.begin_position(position)
        for layer in range(LAYERS):
            for kind in INPUT_KINDS:
                policy.observe(seen(layer, kind, random.choice(CHANNELS[kind], 3, replace=False).tolist()))
            for kind in INPUT_KINDS:
                scores = policy.score(layer + 1, kind, layer) if layer + 1 < LAYERS else None
                if scores is not None:
                    found[position, layer + 1, kind] = scores.copy()
    return found
