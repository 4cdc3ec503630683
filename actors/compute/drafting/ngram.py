"""Drafts by looking back: what followed the last tokens when they stood in the prompt or the output before.

There is no index to keep: comparing every token of the history with the last one takes 2 µs per 10,000, and what is
left after that is little. So appending and forgetting cost nothing, and all matches are seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_MATCH = 32  # a longer match is no better evidence
MOST_CANDIDATES = 4096  # latest places of the last token that are looked at; bounds the time for text of one token
BYTES_PER_POSITION = 4


@dataclass(frozen=True, slots=True)
class NgramProposal:
    """`tokens` followed the last `match` tokens of the history before; none and 0 if these are new."""

    tokens: tuple[int, ...]
    match: int


class NgramDraft:
    """Follows one sequence. Takes BYTES_PER_POSITION for each position of the context, from the start.

    A match of a single token counts: what followed is right 17 to 63 % of the time, and the chooser weighs it by
    length. Of matches of equal length the latest is taken. Over 4,871 tokens that SmolLM2-135M wrote (prose, code,
    repetitive; greedy and at temperature 0.7), of 15 tokens proposed at each place so many are right before the first
    that is wrong: latest 30,290, most frequent continuation 30,188, earliest 28,818; the latest place of the last
    token, however little else matches there: 20,606.
    """

    def __init__(self, context: int) -> None:
        self._tokens = np.zeros(context, np.int32)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, tokens: Sequence[int]) -> None:
        """Append to the history. Raises ValueError beyond the context."""
        stop = self._length + len(tokens)
        if stop > len(self._tokens):
            raise ValueError(f"{stop} tokens do not fit the context of {len(self._tokens)} positions")
        self._tokens[self._length : stop] = tokens
        self._length = stop

    def truncate(self, length: int) -> None:
        """Forget what lies behind the first `length` tokens."""
        self._length = min(self._length, length)

    def propose(self, most: int) -> NgramProposal:
        """What followed the latest of the longest matches, `most` tokens; it runs over the history's end into itself,
        as periodic text does. 15 µs for a history of 1,000 tokens, 20 to 100 for 10,000; 0.5 ms if all are equal."""
        if self._length < 2:
            return NgramProposal((), 0)
        last = self._length - 1
        place, match = _longest_match(self._tokens, last)
        if match == 0:
            return NgramProposal((), 0)
        copied = self._tokens[place + 1 : min(place + 1 + most, self._length)].tolist()
        return NgramProposal(tuple(copied[i % (last - place)] for i in range(most)), match)


def _longest_match(tokens: npt.NDArray[np.int32], last: int) -> tuple[int, int]:
    """The latest place before `last` that ends the longest run equal to that up to `last`, and its length."""
    places = np.flatnonzero(tokens[:last] == tokens[last])[-MOST_CANDIDATES:]
    if len(places) == 0:
        return 0, 0
    match = 1
    while match < MOST_MATCH:
        places_before = places[places >= match]
        longer = places_before[tokens[places_before - match] == tokens[last - match]]
        if len(longer) == 0:
            break
        places, match = longer, match + 1
    return int(places[-1]), match
