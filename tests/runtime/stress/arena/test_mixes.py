from itertools import islice

import numpy as np
import pytest

from tidemill.runtime.stress.arena.mixes import Part, draw_tokens, parse_mix


def tokens(mix: str, channels: int, count: int, number: int, seed: int = 0) -> list[list[int]]:
    stream = draw_tokens(parse_mix(mix), channels, count, np.random.default_rng(seed))
    return [ids.tolist() for ids in islice(stream, number)]


def test_a_mix_is_its_parts_and_their_shares() -> None:
    assert parse_mix("zipf") == [Part("zipf", 1.0, 1.0)]
    assert parse_mix("zipf:0.8*0.75 + loop:0.2*0.25") == [Part("zipf", 0.8, 0.75), Part("loop", 0.2, 0.25)]


@pytest.mark.parametrize("text", ["", "lru", "zipf:x", "zipf:-1", "loop:2", "loop:0", "zipf*2", "scan*0"])
def test_what_is_no_mix_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no mix"):
        parse_mix(text)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 1, got 0\.7"):
        parse_mix("zipf*0.5+scan*0.2")


@pytest.mark.parametrize("mix", ["zipf:1.2", "loop:0.5", "scan", "zipf*0.5+scan*0.5"])
def test_channels_of_a_token_rise_and_exist(mix: str) -> None:
    for ids in tokens(mix, 50, 20, 10):
        assert ids == sorted(set(ids))
        assert 0 <= ids[0] <= ids[-1] < 50


def test_a_loop_goes_round_its_share_and_a_scan_round_all() -> None:
    assert tokens("loop:0.5", 8, 3, 3) == [[0, 1, 2], [0, 1, 3], [0, 2, 3]]
    assert tokens("scan", 8, 3, 3) == [[0, 1, 2], [3, 4, 5], [0, 6, 7]]


def test_the_popular_ones_of_a_zipf_come_more_often_the_steeper_it_is() -> None:
    def share_of_the_top_tenth(mix: str) -> float:
        counts = np.bincount(np.concatenate(tokens(mix, 200, 20, 100)), minlength=200)
        return float(np.sort(counts)[-20:].sum() / counts.sum())

    flat, steep = share_of_the_top_tenth("zipf:0.2"), share_of_the_top_tenth("zipf:1.5")
    assert 0.1 < flat < 0.3 < steep


def test_the_same_seed_draws_the_same_tokens() -> None:
    assert tokens("zipf", 100, 10, 5, seed=3) == tokens("zipf", 100, 10, 5, seed=3)
    assert tokens("zipf", 100, 10, 5, seed=3) != tokens("zipf", 100, 10, 5, seed=4)
