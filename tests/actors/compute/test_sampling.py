import numpy as np
import pytest

from tidemill.actors.compute.sampling import sample
from tidemill.actors.messages import Sampling

LOGITS = np.array([1.0, 3.0, 3.0, -1.0, 2.0], np.float32)


def settings(
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    penalty: float = 1.0,
    seed: int = 0,
) -> Sampling:
    return Sampling(temperature, top_k, top_p, min_p, penalty, seed)


def draws(sampling: Sampling, count: int = 2000) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.bincount([sample(LOGITS, sampling, [], position=i) for i in range(count)], minlength=5)


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    assert sample(LOGITS, settings(temperature=0.0), [], position=9) == 1


def test_the_same_seed_and_position_draw_the_same_token() -> None:
    first = [sample(LOGITS, settings(seed=5), [], position=i) for i in range(50)]
    again = [sample(LOGITS, settings(seed=5), [], position=i) for i in range(50)]
    other = [sample(LOGITS, settings(seed=6), [], position=i) for i in range(50)]
    assert first == again != other


def test_draws_follow_the_softmax() -> None:
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
    # 4 standard deviations of a binomial share over 2000 draws
    assert np.all(np.abs(draws(settings()) / 2000 - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000) + 1e-9)


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (settings(top_k=1), {1}),
        (settings(top_k=3), {1, 2, 4}),
        (settings(top_p=0.5), {1, 2}),
        (settings(top_p=1e-6), {1}),
        (settings(min_p=0.5), {1, 2}),
        (settings(min_p=1.0), {1, 2}),
    ],
)
def test_filters_keep_the_likeliest(sampling: Sampling, allowed: set[int]) -> None:
    assert set(np.flatnonzero(draws(sampling, 400)).tolist()) == allowed


def test_the_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    greedy = settings(temperature=0.0, penalty=2.0)
    assert sample(LOGITS, greedy, [1, 2], position=0) == 4
    assert sample(np.array([-1.0, -1.5], np.float32), greedy, [0, 0], position=0) == 1
