import numpy as np
import pytest

from tidemill.actors.compute.gumbel_noise import gumbel_noise
from tidemill.actors.compute.sampling import DRAW_BLOCK, rank, sample, sample_positions
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


@pytest.mark.parametrize(
    ("sampling", "kept", "temperature"),
    [
        (settings(), [0, 1, 2, 3, 4], 1.0),
        (settings(temperature=2.5, seed=3), [0, 1, 2, 3, 4], 2.5),
        (settings(top_k=3, seed=1), [1, 2, 4], 1.0),
        (settings(top_p=0.95, min_p=0.2, temperature=0.7), [1, 2, 4], 0.7),
    ],
)
def test_draws_follow_the_softmax_of_what_is_kept(sampling: Sampling, kept: list[int], temperature: float) -> None:
    weights = np.zeros(5)
    weights[kept] = np.exp(LOGITS[kept] / temperature)
    expected = 2000 * weights / weights.sum()
    counts = draws(sampling, 2000)
    assert np.all(counts[weights == 0] == 0)
    # chi-square of at most 4 degrees of freedom: 23.5 is passed once in 10,000 times
    assert ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum() < 23.5


def test_filters_change_no_noise() -> None:
    """What a filter keeps is drawn as if all were there and the others far below."""
    rng = np.random.default_rng(4)
    for position in range(200):
        logits = (3 * rng.standard_normal(300)).astype(np.float32)
        kept = np.sort(np.argsort(-logits)[:20])
        scores = logits[kept].astype(np.float64) / 0.8 + gumbel_noise(9, position, kept)
        filtered = sample(logits, settings(temperature=0.8, top_k=20, seed=9), [], position=position)
        assert filtered == kept[np.argmax(scores)]


def test_filters_are_those_of_the_sorted_definition() -> None:
    """Sorting everything, as the filters are defined, keeps what the filters keep; also across ties."""
    rng = np.random.default_rng(6)
    for position in range(60):
        logits = np.round(rng.standard_normal(9000) * rng.choice([0.1, 2.0, 8.0]), 1).astype(np.float32)
        top_k, top_p, min_p = int(rng.choice([0, 7, 500])), rng.choice([0.2, 0.9, 1.0]), rng.choice([0.0, 0.03])
        kept = np.sort(by_sorting(logits, top_k, top_p, min_p))
        expected = kept[np.argmax(logits[kept].astype(np.float64) + gumbel_noise(2, position, kept))]
        assert sample(logits, settings(1.0, top_k, top_p, min_p, seed=2), [], position=position) == expected


def by_sorting(
    logits: "np.ndarray[tuple[int], np.dtype[np.float32]]", top_k: int, top_p: float, min_p: float
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    ids = np.argsort(-logits, kind="stable")[: top_k or None]
    probabilities = np.exp(logits[ids].astype(np.float64) - logits.max())
    probabilities /= probabilities.sum()
    # 1e-7: the filter works with f32 exponentials, and no share here lies that near to a limit by anything but ties
    count = int(np.searchsorted(np.cumsum(probabilities), top_p - 1e-7)) + 1 if top_p < 1.0 else len(ids)
    return ids[:count][probabilities[:count] >= (min_p - 1e-9) * probabilities[0]]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.full(9000, -np.inf, np.float32)
    logits[[17, 8500]] = [-3.0, -2.5]
    for sampling in (settings(), settings(top_k=5), settings(top_p=0.999), settings(min_p=0.01), settings(100.0)):
        assert {sample(logits, sampling, [], position=i) for i in range(60)} == {17, 8500}
    logits[8500] = -np.inf
    assert {sample(logits, settings(100.0), [], position=i) for i in range(20)} == {17}


def test_one_id_kept_and_the_least_temperature_are_greedy() -> None:
    for sampling in (settings(top_k=1), settings(top_p=1e-9), settings(temperature=5e-324, top_k=4)):
        assert {sample(np.array([0.0, 2.0, 1.0], np.float32), sampling, [], position=i) for i in range(50)} == {1}
    assert sample(np.array([0.5], np.float32), settings(), [], position=3) == 0


def test_drafts_from_coarser_logits_agree_as_often_as_the_coupling_says() -> None:
    rng = np.random.default_rng(1)
    exact = (2 * rng.standard_normal(40)).astype(np.float32)
    coarse = exact + (0.5 * rng.standard_normal(40)).astype(np.float32)
    p, q = (np.exp(logits) / np.exp(logits).sum() for logits in (exact, coarse))
    expected = (1 / np.maximum(p[None, :] / p[:, None], q[None, :] / q[:, None]).sum(axis=1)).sum()
    distance = 0.5 * np.abs(p - q).sum()
    count = 2000
    agreed = sum(
        sample(exact, settings(), [], position=i) == sample(coarse, settings(), [], position=i) for i in range(count)
    )
    # 4 standard deviations of a binomial share
    assert abs(agreed / count - expected) < 4 * np.sqrt(expected * (1 - expected) / count)
    assert (1 - distance) / (1 + distance) <= expected <= 1 - distance


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


POSITIONS = np.random.default_rng(3).standard_normal((5, 600)).astype(np.float32) * 3


@pytest.mark.parametrize(
    "sampling",
    [settings(0.0), settings(seed=4), settings(0.0, penalty=1.7), settings(0.9, 50, 0.9, 0.01, 1.5, 8)],
)
def test_positions_are_accepted_up_to_the_first_that_differs(sampling: Sampling) -> None:
    history = [3, 600 - 1, 3]
    one_by_one: list[int] = []
    for row in POSITIONS:
        one_by_one.append(sample(row, sampling, history + one_by_one, position=3 + len(one_by_one)))
    right = one_by_one[:4]
    assert sample_positions(POSITIONS, sampling, history, start=3, proposed=right) == one_by_one
    for wrong in range(4):
        proposed = [*right[:wrong], (right[wrong] + 1) % 600, *right[wrong + 1 :]]
        assert sample_positions(POSITIONS, sampling, history, start=3, proposed=proposed) == one_by_one[: wrong + 1]
    assert sample_positions(POSITIONS[:1], sampling, history, start=3, proposed=[]) == one_by_one[:1]
    assert history == [3, 599, 3]


def test_the_penalty_sees_what_was_accepted_before() -> None:
    logits = np.array([[2.0, 1.9, 0.0], [2.0, 1.9, 0.0], [2.0, 1.9, 1.8]], np.float32)
    greedy = settings(0.0, penalty=2.0)
    assert sample_positions(logits, greedy, [], start=0, proposed=[0, 1]) == [0, 1, 2]
    assert sample_positions(logits, settings(0.0), [], start=0, proposed=[0, 0]) == [0, 0, 0]


SAMPLINGS = [
    settings(temperature=0.0),
    settings(temperature=0.0, penalty=1.4),
    settings(seed=3),
    settings(temperature=0.7, top_k=20, seed=4),
    settings(temperature=1.3, top_p=0.9, min_p=0.01, penalty=1.2, seed=5),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_ranked_are_the_token_that_is_sampled_and_the_one_that_would_be_without_it(sampling: Sampling) -> None:
    """Over more ids than are scored at a time."""
    rng = np.random.default_rng(6)
    for position in range(20):
        logits = (2 * rng.standard_normal(DRAW_BLOCK + 50)).astype(np.float32)
        history = [int(token) for token in np.argsort(logits)[-3:]]
        ranked = rank(logits, sampling, history, position=position)
        assert ranked.token == sample(logits, sampling, history, position=position)
        assert ranked.second != ranked.token
        assert ranked.gap >= 0.0
        if sampling.top_p == 1.0 and sampling.top_k == 0:
            logits[ranked.token] = -1e9
            assert ranked.second == sample(logits, sampling, history, position=position)


def test_the_gap_is_what_the_token_may_lose_before_another_is_drawn() -> None:
    rng = np.random.default_rng(8)
    for sampling in (settings(temperature=0.0), settings(temperature=0.6, seed=2)):
        for position in range(30):
            logits = rng.standard_normal(200).astype(np.float32)
            token, second, gap = rank(logits, sampling, [], position=position)
            for loss, expected in ((gap - 1e-3, token), (gap + 1e-3, second)):
                less = logits.copy()
                less[token] -= loss
                assert sample(less, sampling, [], position=position) == expected


def test_where_a_filter_leaves_one_id_the_gap_is_that_of_the_logits() -> None:
    assert rank(LOGITS, settings(top_k=1, seed=9), [], position=0) == (1, 2, 0.0)
    assert rank(np.array([1.0, 4.5, 3.0], np.float32), settings(top_k=1), [], position=0) == (1, 2, 1.5)
