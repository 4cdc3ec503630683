"""Where chains end."""

from collections.abc import Sequence

import numpy as np
import pytest

from tidemill.actors.compute.drafting.drafter import Drafter, DraftLap
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import DraftSpec
from tidemill.actors.messages import Sampling

GREEDY = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
PROMPT = [1, 2, 3]
BARS = (0.9, 0.9, 0.9, 0.9)


class Gapped:
    """Drafts the number of its place, so far before the next one."""

    kernel_ns = 0
    is_ready = True

    def __init__(self, gaps: Sequence[float]) -> None:
        self._gaps = gaps

    def draft(self, history: Sequence[int]) -> DraftLap:
        place = len(history)
        logits = np.full(50, -100.0, np.float32)
        logits[place], logits[place + 1] = 0.0, -self._gaps[place - len(PROMPT)]
        return logits
        yield


def drafter(gaps: Sequence[float], ends: Sequence[int] = ()) -> Drafter:
    spec = DraftSpec(kinds=("planes",))
    return Drafter(spec, {"planes": Gapped(gaps)}, context=64, ends=ends, clock_ns=lambda: 0)


def proposed(by: Drafter, choice: Choice) -> list[int]:
    lap = by.propose(choice, PROMPT, GREEDY)
    try:
        next(lap)
    except StopIteration as end:
        tokens: list[int] = end.value
        return tokens
    raise AssertionError("nothing is waited for")


@pytest.mark.parametrize("unsure", range(5))
def test_a_chain_ends_with_the_first_token_that_may_well_be_wrong(unsure: int) -> None:
    """That one is checked: what it cost is spent."""
    gaps = [9.0] * 5
    gaps[unsure] = 0.1
    assert proposed(drafter(gaps), Choice("planes", 5, BARS)) == [3, 4, 5, 6, 7][: unsure + 1]


def test_many_tokens_that_are_fairly_sure_are_together_unsure() -> None:
    gap = 1.2  # right 19 times of 20
    assert len(proposed(drafter([gap] * 5), Choice("planes", 5, BARS))) == 3


def test_a_chain_without_bars_is_as_long_as_was_chosen() -> None:
    assert len(proposed(drafter([0.0] * 8), Choice("planes", 6))) == 6
    assert proposed(drafter([0.0] * 8), Choice("none", 0)) == []


def test_nothing_is_drafted_behind_an_end() -> None:
    assert proposed(drafter([9.0] * 8, ends=[5]), Choice("planes", 6)) == [3, 4, 5]


def test_wrong_drafts_make_it_less_sure() -> None:
    by = drafter([1.5] * 15)
    before = len(proposed(by, Choice("planes", 15, (0.5,) * 14)))
    for _ in range(20):
        drafted = len(proposed(by, Choice("planes", 15, (0.5,) * 14)))
        done = Pass(
            kind="planes", drafted=drafted, accepted=0, positions=drafted + 1, draft_ns=1, check_ns=1, stall_ns=0
        )
        by.learn(done)
    assert len(proposed(by, Choice("planes", 15, (0.5,) * 14))) < before


def test_tokens_that_looking_back_proposed_are_counted() -> None:
    spec = DraftSpec(kinds=("ngram",))
    by = Drafter(spec, {}, context=64, ends=(), clock_ns=lambda: 0)
    by.choose([7, 8, 9, 4, 7, 8], 3)
    assert by.count_echoed([9, 4, 7]) == 3
    assert by.count_echoed([9, 4, 2]) == by.count_echoed([9, 4]) == 2
    assert by.count_echoed([1]) == 0
    by.choose([1, 2, 3], 3)
    assert by.count_echoed([1]) == 0
