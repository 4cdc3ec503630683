import numpy as np
import pytest

from tidemill.actors.compute.drafting.ngram import MOST_MATCH, NgramDraft, NgramProposal


def drafting(tokens: "list[int]", context: int = 4096) -> NgramDraft:
    draft = NgramDraft(context)
    draft.extend(tokens)
    return draft


def by_definition(history: list[int], most: int) -> NgramProposal:
    """Every place compared token by token; the text continues as it did behind the latest of the longest matches."""
    best_place, best = -1, 0
    for place in range(len(history) - 1):
        match = 0
        while match < min(MOST_MATCH, place + 1) and history[place - match] == history[-1 - match]:
            match += 1
        if match >= best and match > 0:
            best_place, best = place, match
    if best == 0:
        return NgramProposal((), 0)
    longer = list(history)
    for i in range(most):
        longer.append(longer[best_place + 1 + i])
    return NgramProposal(tuple(longer[len(history) :]), best)


def test_the_continuation_of_the_longest_match_is_proposed() -> None:
    draft = drafting([1, 2, 3, 7, 8, 9, 2, 3, 5, 5, 5, 1, 2, 3])
    assert draft.propose(4) == NgramProposal((7, 8, 9, 2), 3)


def test_of_equal_matches_the_latest_is_taken() -> None:
    assert drafting([4, 1, 2, 60, 5, 1, 2, 70, 6, 1, 2]).propose(2) == NgramProposal((70, 6), 2)


def test_a_new_token_matches_nothing() -> None:
    assert drafting([1, 2, 3]).propose(5) == NgramProposal((), 0)
    assert drafting([1]).propose(5) == NgramProposal((), 0)
    assert drafting([]).propose(5) == NgramProposal((), 0)


def test_periodic_text_goes_on_through_the_end() -> None:
    assert drafting([9, 1, 2, 3, 1, 2]).propose(8) == NgramProposal((3, 1, 2, 3, 1, 2, 3, 1), 2)
    assert drafting([7, 7]).propose(3) == NgramProposal((7, 7, 7), 1)
    assert drafting([7] * 100).propose(3) == NgramProposal((7, 7, 7), MOST_MATCH)


@pytest.mark.parametrize("vocabulary", [2, 4, 30])
def test_proposals_are_those_of_the_definition(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    history: list[int] = []
    draft = NgramDraft(400)
    for _ in range(120):
        more = rng.integers(vocabulary, size=int(rng.integers(1, 4))).tolist()
        draft.extend(more)
        history += more
        if rng.random() < 0.05:
            keep = int(rng.integers(len(history) + 1))
            draft.truncate(keep)
            del history[keep:]
        assert len(draft) == len(history)
        assert draft.propose(6) == (by_definition(history, 6))


def test_what_was_forgotten_is_not_proposed() -> None:
    draft = drafting([1, 2, 3, 4, 1, 2])
    draft.truncate(3)
    draft.extend([1, 2])
    assert draft.propose(2) == NgramProposal((3, 1), 2)
    draft.truncate(100)
    assert len(draft) == 5


def test_more_than_the_context_is_refused() -> None:
    draft = drafting([1, 2], context=3)
    with pytest.raises(ValueError, match="4 tokens do not fit the context of 3"):
        draft.extend([3, 4])
    assert len(draft) == 2
