from collections.abc import Mapping

import pytest

from tests.fakes.draft_machine import DraftMachine, Ran, Text, chain_text, decode
from tidemill.actors.compute.drafting.chooser import DraftChooser
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import MOST_DRAFTED, DraftKind

TOKENS = 256
NONE = Choice("none", 0)
DRAFTS: Mapping[DraftKind, float] = {"planes": 22.0, "ngram": 0.01}
KINDS: tuple[DraftKind, ...] = ("ngram", "planes")
RESIDENT = DraftMachine(base=30, position=10, draft=DRAFTS)
STREAMING = DraftMachine(base=30, position=8, draft=DRAFTS, stream=300, ahead=120)
SLOW_DRIVE = DraftMachine(base=30, position=8, draft=DRAFTS, stream=2000, ahead=120)
NOISY = DraftMachine(base=30, position=10, draft=DRAFTS, noise=0.15, outliers=0.1)
GROWING = DraftMachine(base=30, position=10, draft=DRAFTS, growth=0.001)
MACHINES = {"resident": RESIDENT, "stream": STREAMING, "slow": SLOW_DRIVE, "noisy": NOISY, "growing": GROWING}


def text(ngram: float, planes: float, seed: int = 1) -> Text:
    rights = {"none": 0.0, "ngram": ngram, "planes": planes, "model": 0.0}
    return chain_text(lambda kind, place: rights[kind], seed)


def changing(before: float, after: float, every: int) -> Text:
    return chain_text(lambda kind, place: after if place // every % 2 else before, 5)


def matches(place: int) -> int:
    return 6 if place * 7919 % 10 < 5 else 0


def auto(machine: DraftMachine, of: Text, tokens: int = TOKENS, seed: int = 0) -> Ran:
    chooser = DraftChooser(KINDS, MOST_DRAFTED, None)
    return decode(machine, of, chooser, tokens=tokens, seed=seed, match=matches)


def plain(machine: DraftMachine, of: Text, tokens: int = TOKENS) -> float:
    return decode(machine, of, NONE, tokens=tokens).seconds


def best_fixed(machine: DraftMachine, of: Text, tokens: int = TOKENS) -> float:
    choices = [Choice(kind, length) for kind in KINDS for length in (1, 2, 4, 6, 8, 15)]
    drafted = [decode(machine, of, choice, tokens=tokens, match=matches).seconds for choice in choices]
    return min(plain(machine, of, tokens), *drafted)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("right", [0.0, 0.1, 0.3, 0.6])
def test_auto_is_at_most_three_per_cent_slower_than_none(machine: str, right: float) -> None:
    of = text(right, right)
    limit = 1.03 * plain(MACHINES[machine], of)
    seconds = [auto(MACHINES[machine], of, seed=seed).seconds for seed in range(3)]
    assert max(seconds) <= limit


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("before", "after"), [(0.9, 0.0), (0.0, 0.9)])
def test_auto_is_not_slower_where_acceptance_changes(machine: str, before: float, after: float) -> None:
    of = changing(before, after, 160)
    assert auto(MACHINES[machine], of, 320).seconds < 1.03 * plain(MACHINES[machine], of, 320)


@pytest.mark.slow
@pytest.mark.parametrize("right", [(0.9, 0.85), (0.8, 0.7), (0.4, 0.6), (0.9, 0.3)])
@pytest.mark.parametrize("machine", ["resident", "stream", "slow"])
def test_auto_comes_near_the_best_fixed_choice(machine: str, right: tuple[float, float]) -> None:
    """Which is known to be best only afterwards; on average over what is tried here auto is 5 % before it."""
    texts = [text(*right, seed=seed) for seed in range(3)]
    ratios = [auto(MACHINES[machine], of, 512).seconds / best_fixed(MACHINES[machine], of, 512) for of in texts]
    assert sum(ratios) / 3 < 1.2


def test_drafts_that_stop_being_right_are_given_up_and_found_again() -> None:
    """No fixed choice does as well on a text of which every second stretch can't be drafted."""
    of = changing(0.9, 0.0, 100)
    assert auto(RESIDENT, of, 800).seconds < best_fixed(RESIDENT, of, 800) < plain(RESIDENT, of, 800)


def test_a_growing_context_makes_no_draft_look_bad() -> None:
    """By the end a plain step takes half as long again."""
    of = text(0.9, 0.9)
    growing = DraftMachine(base=30, position=2, draft={"ngram": 0.01}, growth=0.001)
    ran = decode(growing, of, DraftChooser(("ngram",), MOST_DRAFTED, None), tokens=512, match=lambda place: 6)
    assert sum(done.drafted > 0 for done in ran.passes) > 0.85 * len(ran.passes)


def test_a_new_request_forgets_the_text_but_not_the_machine() -> None:
    chooser = DraftChooser(KINDS, MOST_DRAFTED, None)
    decode(STREAMING, text(0.0, 0.0), chooser, tokens=100, match=matches)
    chooser.begin_request()
    again = decode(STREAMING, text(0.9, 0.9), chooser, tokens=60, match=matches).passes
    # at most one plain step, to look what that takes; what didn't work before may work now
    assert sum(done.drafted > 0 for done in again) >= len(again) - 2


def test_a_fixed_length_is_drafted_whatever_it_brings() -> None:
    chooser = DraftChooser(KINDS, MOST_DRAFTED, 5)
    assert chooser.choose(room=100, match=3) == Choice("ngram", 5)
    assert chooser.choose(room=100, match=0) == Choice("planes", 5)
    assert chooser.choose(room=4, match=0) == Choice("planes", 3)
    assert chooser.choose(room=1, match=9) == NONE
    assert DraftChooser(("ngram",), MOST_DRAFTED, 5).choose(room=100, match=0) == NONE
    ran = decode(RESIDENT, text(0.0, 0.0), chooser, tokens=40, match=matches)
    assert {done.drafted for done in ran.passes[:-5]} == {5}


def test_no_more_is_drafted_than_there_is_room_for() -> None:
    chooser = DraftChooser(("planes",), 6, None)
    lengths = set()
    for i in range(120):
        room = i % 9 + 1
        choice = chooser.choose(room=room, match=0)
        assert choice.length <= min(6, room - 1)
        lengths.add(choice.length)
        chooser.observe(
            Pass(
                kind=choice.kind,
                drafted=choice.length,
                accepted=choice.length,
                positions=choice.length + 1,
                draft_ns=choice.length,
                check_ns=1000,
                stall_ns=900,
            )
        )
    assert lengths == set(range(7))


def test_the_same_passes_lead_to_the_same_choices() -> None:
    of = text(0.7, 0.6)
    assert auto(NOISY, of).passes == auto(NOISY, of).passes
