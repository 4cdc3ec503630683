import numpy as np
import pytest

from tidemill.actors.compute.drafting.acceptance import PRIORS, Acceptance


def expected(acceptance: Acceptance, most: int) -> float:
    """Tokens that a pass of planes brings."""
    return 1 + sum(acceptance.right("planes", 0, most=most))


def test_before_anything_is_known_each_token_has_the_prior_and_no_chain_ends_early() -> None:
    prior = PRIORS["planes"][0]
    assert Acceptance().right("planes", 0, most=3) == pytest.approx([prior, prior**2, prior**3])
    assert Acceptance().drafted("planes", most=3) == [1.0, 1.0, 1.0]
    assert Acceptance().right("planes", 0, most=0) == []


@pytest.mark.parametrize("right", [0.0, 0.3, 0.9, 1.0])
def test_counts_come_to_the_share_that_is_accepted(right: float) -> None:
    rng = np.random.default_rng(2)
    acceptance = Acceptance()
    seen = []
    for i in range(400):
        wrong = rng.random(4) >= right
        accepted = int(np.argmax(wrong)) if wrong.any() else 4
        acceptance.observe("planes", most=4, drafted=4, accepted=accepted)
        if i >= 50:
            seen.append(expected(acceptance, 4))
    # the mean of a fading average is the average's mean; a product of them is a little more
    assert np.mean(seen) == pytest.approx(sum(right**i for i in range(5)), abs=0.12)


def test_later_tokens_are_counted_apart_from_the_first() -> None:
    """A text where the first is right half of the time and the others always, once it was."""
    acceptance = Acceptance()
    for i in range(200):
        acceptance.observe("planes", most=8, drafted=8, accepted=8 * (i % 2))
    assert 0.4 < acceptance.right("planes", 0, most=1)[0] < 0.7
    assert expected(acceptance, 8) > 1 + 8 * 0.45


def test_chains_that_end_early_bring_what_they_brought_and_draft_what_they_drafted() -> None:
    """Every token that is drafted is right; half of the chains end behind the second one."""
    acceptance = Acceptance()
    for i in range(300):
        drafted = 2 if i % 2 else 8
        acceptance.observe("planes", most=8, drafted=drafted, accepted=drafted)
    right, drafted_share = acceptance.right("planes", 0, most=8), acceptance.drafted("planes", most=8)
    assert right[0] == pytest.approx(1.0, abs=0.05)
    assert drafted_share[0] == 1.0
    assert sum(right) == pytest.approx((2 + 8) / 2, abs=0.7)
    assert sum(drafted_share) == pytest.approx((2 + 8) / 2, abs=0.7)


def test_an_n_gram_is_learned_from_whatever_was_drafted() -> None:
    """A pass of plane 0 tells as well whether looking back would have been right."""
    acceptance = Acceptance()
    for _ in range(30):
        acceptance.observe_ngram(1, most=1, right=0)
        acceptance.observe_ngram(40, most=4, right=4)
    assert acceptance.right("ngram", 1, most=1)[0] < 0.1
    assert acceptance.right("ngram", 16, most=1)[0] > 0.9


def test_two_bad_n_grams_make_all_of_them_doubtful() -> None:
    acceptance = Acceptance()
    for match in (6, 10):
        acceptance.observe_ngram(match, most=5, right=0)
    for match, prior in zip((1, 2, 4, 20), (PRIORS["ngram"][i] for i in (0, 1, 2, 5)), strict=True):
        assert acceptance.right("ngram", match, most=1)[0] < 0.75 * prior
    assert acceptance.right("planes", 0, most=1)[0] == pytest.approx(PRIORS["planes"][0])


def test_good_n_grams_of_one_length_make_no_other_better_than_its_prior() -> None:
    acceptance = Acceptance()
    for _ in range(20):
        acceptance.observe_ngram(20, most=15, right=15)
    assert acceptance.right("ngram", 1, most=1)[0] == pytest.approx(PRIORS["ngram"][0])


def test_old_counts_fade() -> None:
    acceptance = Acceptance()
    for _ in range(200):
        acceptance.observe("planes", most=4, drafted=4, accepted=4)
    for _ in range(25):
        acceptance.observe("planes", most=4, drafted=4, accepted=0)
    assert acceptance.right("planes", 0, most=1)[0] < 0.4


def test_tokens_behind_the_first_wrong_one_say_nothing() -> None:
    short, long = Acceptance(), Acceptance()
    for _ in range(10):
        short.observe("planes", most=3, drafted=3, accepted=2)
        long.observe("planes", most=15, drafted=15, accepted=2)
    assert short.right("planes", 0, most=15) == long.right("planes", 0, most=15)
