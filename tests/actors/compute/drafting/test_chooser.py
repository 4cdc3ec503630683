from collections.abc import Mapping

import pytest

from tests.fakes.draft_machine import DraftMachine, Ran, Text, chain_text, decode
from tidemill.actors.compute.drafting.chooser import DraftChooser
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import MOST_DRAFTED, DraftKind

TOKENS = 400
NONE = Choice("none", 0)
DRAFTS: Mapping[DraftKind, float] = {"planes": 22.0, "ngram": 0.01}
KINDS: tuple[DraftKind, ...] = ("ngram", "planes")
RESIDENT = DraftMachine(base=30, position=10, draft=DRAFTS)
STREAMING = DraftMachine(base=30, position=8, draft=DRAFTS, stream=300, ahead=120)
SLOW_DRIVE = DraftMachine(base=30, position=8, draft=DRAFTS, stream=2000, ahead=120)
NOISY = DraftMachine(base=30, position=10, draft=DRAFTS, noise=0.15, outliers=0.1)


def text(ngram: float, planes: float, seed: int = 1) -> Text:
    rights = {"none": 0.0, "ngram": ngram, "planes": planes, "model": 0.0}
    return chain_text(lambda kind, place: rights[kind], seed)


def matches(place: int) -> int:
    return 6 if place * 7919 % 10 < 5 else 0


def auto(machine: DraftMachine, of: Text, tokens: int = TOKENS) -> Ran:
    return decode(machine, of, DraftChooser(KINDS, MOST_DRAFTED, None), tokens=tokens, match=matches)


def plain(machine: DraftMachine, of: Text, tokens: int = TOKENS) -> float:
    return decode(machine, of, NONE, tokens=tokens).seconds


def best_fixed(machine: DraftMachine, of: Text) -> float:
    choices = [Choice(kind, length) for kind in KINDS for length in (1, 2, 4, 6, 8, 15)]
    drafted = [decode(machine, of, choice, tokens=TOKENS, match=matches).seconds for choice in choices]
    return min(plain(machine, of), *drafted)


@pytest.mark.parametrize(
    "machine", [RESIDENT, STREAMING, SLOW_DRIVE, NOISY], ids=["resident", "stream", "slow", "noisy"]
)
@pytest.mark.parametrize("right", [0.0, 0.1, 0.3])
def test_drafts_that_lose_cost_at_most_three_per_cent(machine: DraftMachine, right: float) -> None:
    of = text(right, right)
    assert auto(machine, of).seconds < 1.03 * plain(machine, of)


@pytest.mark.parametrize("machine", [STREAMING, SLOW_DRIVE], ids=["stream", "slow"])
@pytest.mark.parametrize("right", [(0.8, 0.7), (0.4, 0.6)])
def test_drafts_that_pay_are_near_the_best_fixed_choice(machine: DraftMachine, right: tuple[float, float]) -> None:
    of = text(*right)
    assert auto(machine, of).seconds < 1.15 * best_fixed(machine, of)


def test_a_fixed_length_is_drafted_whatever_it_brings() -> None:
    chooser = DraftChooser(KINDS, MOST_DRAFTED, 5)
    assert chooser.choose(room=100, match=3) == Choice("ngram", 5)
    assert chooser.choose(room=100, match=0) == Choice("planes", 5)
    assert chooser.choose(room=4, match=0) == Choice("planes", 3)
    assert chooser.choose(room=1, match=9) == NONE
    assert DraftChooser(("ngram",), MOST_DRAFTED, 5).choose(room=100, match=0) == NONE


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
