"""What benchmarks/draft_shapes.py counts, by hand."""

import numpy as np
import pytest

from benchmarks.draft_chains import Chain, Chains
from benchmarks.draft_shapes import (
    STOPS,
    Places,
    chain_passes,
    draft_while,
    fit_scale,
    ngram_passes,
    other_continuation,
    read_places,
    stop_below,
    tree_passes,
)

FAR = [9.0, 9.0, 9.0]
# All right; wrong at once, the second choice right and both behind it; wrong last, the third choice right; a token that
# is no choice.
CHAINS = [
    Chain([0, 0, 0], [0.9, 0.5, 0.9], [FAR, FAR, FAR]),
    Chain([1, 0, 0], [0.4, 0.9, 0.9], [[0.1, 5.0, 9.0], FAR, FAR]),
    Chain([0, 0, 2], [0.9, 0.9, 0.2], [FAR, [2.0, 9.0, 9.0], [0.5, 0.6, 9.0]]),
    Chain([0, 7, 0], [0.9, 0.3, 0.9], [FAR, [0.1, 0.2, 0.3], FAR]),
]
PLACES = read_places(Chains("m", "a", 0.0, 1, 0, [], CHAINS), scale=1.0)


def lengths(value: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.full(4, value)


def test_a_chain_brings_its_right_drafts_and_one_more() -> None:
    passes = chain_passes(PLACES, lengths(2))
    assert passes.tokens.tolist() == [3, 1, 3, 2]
    assert passes.laps.tolist() == [2] * 4
    assert passes.positions.tolist() == [3] * 4


def test_a_chain_ends_with_the_first_unsure_draft() -> None:
    assert stop_below(PLACES.sure, 0.6, 3).tolist() == [2, 1, 3, 2]
    assert stop_below(PLACES.sure, 0.6, 2).tolist() == [2, 1, 2, 2]
    assert stop_below(STOPS["probabilities"](PLACES), 0.4, 3).tolist() == [3, 2, 3, 2]


def test_a_chain_goes_on_while_its_next_draft_is_likely_enough_to_be_reached() -> None:
    assert draft_while(PLACES, np.array([1.0, 0.6, 0.8])).tolist() == [3, 1, 3, 2]
    assert draft_while(PLACES, np.array([1.0, 0.6, 0.9])).tolist() == [3, 1, 2, 2]


def test_a_leaf_brings_a_token_where_it_is_the_first_wrong_ones_true_token() -> None:
    every = tree_passes(PLACES, lengths(3), leaf=0.0)
    assert (every.tokens - chain_passes(PLACES, lengths(3)).tokens).tolist() == [0, 1, 1, 0]
    assert every.positions.tolist() == [13] * 4
    assert every.laps.tolist() == [3] * 4
    likely = tree_passes(PLACES, lengths(3), leaf=0.4)
    assert likely.tokens.tolist() == [4, 2, 3, 2]  # the third choice of the third place has a chance of 0.3 only
    assert likely.positions.tolist() == [4, 5, 4, 7]


def test_leaves_take_the_room_that_there_is() -> None:
    assert tree_passes(PLACES, lengths(3), leaf=0.0, checked=4).positions.tolist() == [5] * 4
    assert tree_passes(PLACES, lengths(3), leaf=0.0, checked=4).tokens.tolist() == [4, 2, 3, 2]
    assert tree_passes(PLACES, lengths(3), leaf=0.0, checked=3).tokens.tolist() == [4, 1, 3, 2]


def test_a_branch_brings_what_is_right_behind_it() -> None:
    passes = tree_passes(PLACES, lengths(2), leaf=1.0, branch=0.4, further=1)
    assert passes.tokens.tolist() == [3, 3, 3, 2]
    assert passes.branch_laps.tolist() == [0, 1, 0, 1]
    assert passes.positions.tolist() == [3, 5, 3, 5]
    assert tree_passes(PLACES, lengths(2), leaf=1.0, branch=0.4, further=4).tokens.tolist() == [3, 4, 3, 2]
    assert tree_passes(PLACES, lengths(2), leaf=1.0, branch=0.4, further=4, checked=6).tokens.tolist() == [3, 1, 3, 2]


def test_the_scale_is_that_of_the_noise() -> None:
    random = np.random.default_rng(1)
    gaps = random.exponential(1.0, (2000, 1, 3))
    wrong = random.random((2000, 1)) < 1 / (1 + np.exp(gaps[:, :, 0] / 0.3))
    places = Places(wrong.astype(np.int64), np.ones((2000, 1)), gaps, 1.0)
    assert fit_scale([places], (0.1, 0.2, 0.3, 0.45, 0.7)) == 0.3


@pytest.mark.parametrize(
    ("history", "avoided", "other"),
    [
        ([1, 2, 3, 1, 2, 4, 1, 2], 4, [3, 1]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 3, [4, 1]),
        ([5, 2, 3, 1, 2, 4, 5, 2], 0, [3, 1]),  # the longer match before the later one
        ([1, 2, 3, 4], 0, []),
    ],
)
def test_another_continuation(history: list[int], avoided: int, other: list[int]) -> None:
    assert other_continuation(history, avoided, 2) == other


def test_drafts_by_looking_back_and_their_forks() -> None:
    text = [1, 2, 3, 8, 1, 2, 4, 9, 1, 2, 3, 8, 7]  # behind 1 2 at place 10 come 3 8, and 4 9 before
    chains = Chains("m", "a", 0.0, 1, 10, text, CHAINS[:1])
    chain = ngram_passes(chains, 2)
    assert (chain.tokens.tolist(), chain.positions.tolist(), chain.laps.tolist()) == ([1], [3], [0])
    forked = ngram_passes(chains, 2, forks=1, further=1)
    assert (forked.tokens.tolist(), forked.positions.tolist()) == ([3], [5])
