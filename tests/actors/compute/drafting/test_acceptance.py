import numpy as np
import pytest

from tidemill.actors.compute.drafting.acceptance import PRIORS, Acceptance


def test_expected_tokens_begin_with_the_one_that_every_pass_brings() -> None:
    expected = Acceptance().expected("planes", 0, most=3)
    prior = PRIORS["planes"][0]
    assert expected == pytest.approx([1.0, 1 + prior, 1 + prior + prior**2, 1 + prior + prior**2 + prior**3])


@pytest.mark.parametrize("right", [0.0, 0.3, 0.9, 1.0])
def test_counts_come_to_the_share_that_is_accepted(right: float) -> None:
    rng = np.random.default_rng(2)
    acceptance = Acceptance()
    seen = []
    for i in range(400):
        wrong = rng.random(4) >= right
        accepted = int(np.argmax(wrong)) if wrong.any() else 4
        acceptance.observe("model", 0, drafted=4, accepted=accepted)
        if i >= 50:
            seen.append(acceptance.expected("model", 0, most=4)[4])
    # the mean of a fading average is the average's mean; a product of them is a little more
    assert np.mean(seen) == pytest.approx(sum(right**i for i in range(5)), abs=0.12)


def test_later_tokens_are_counted_apart_from_the_first() -> None:
    """A text where the first is right half of the time and the others always, once it was."""
    acceptance = Acceptance()
    for i in range(200):
        acceptance.observe("planes", 0, drafted=8, accepted=8 * (i % 2))
    expected = acceptance.expected("planes", 0, most=8)
    assert 1.4 < expected[1] < 1.7
    assert expected[8] > 1 + 8 * 0.45


def test_what_a_longer_match_proposes_is_counted_apart() -> None:
    acceptance = Acceptance()
    for _ in range(30):
        acceptance.observe("ngram", 1, drafted=4, accepted=0)
        acceptance.observe("ngram", 40, drafted=4, accepted=4)
    assert acceptance.expected("ngram", 1, most=1)[1] < 1.1
    assert acceptance.expected("ngram", 16, most=1)[1] > 1.9
    assert acceptance.expected("ngram", 6, most=1)[1] == pytest.approx(1 + PRIORS["ngram"][3])
    assert acceptance.expected("planes", 0, most=1)[1] == pytest.approx(1 + PRIORS["planes"][0])


def test_old_counts_fade() -> None:
    acceptance = Acceptance()
    for _ in range(200):
        acceptance.observe("planes", 0, drafted=4, accepted=4)
    for _ in range(25):
        acceptance.observe("planes", 0, drafted=4, accepted=0)
    assert acceptance.expected("planes", 0, most=1)[1] < 1.35


def test_tokens_behind_the_first_wrong_one_say_nothing() -> None:
    short, long = Acceptance(), Acceptance()
    for _ in range(10):
        short.observe("planes", 0, drafted=3, accepted=2)
        long.observe("planes", 0, drafted=15, accepted=2)
    assert short.expected("planes", 0, most=15) == long.expected("planes", 0, most=15)
