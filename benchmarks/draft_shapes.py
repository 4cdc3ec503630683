"""What a pass of drafts would have brought at each place of a recorded text, by the shape of what it drafts: chains of
a length or as long as the draft is sure, leaves beside a chain, branches that go on. Counts only; time is not known
here.

A *leaf* is another choice of the draft lap at a depth of the chain: it costs a checked position and no lap. Where the
chain's first wrong token has the true one for a leaf, the pass brings a token more, since the leaf's own logits count
too. A *branch* is a second choice that is drafted on: a lap and a position for each further token.

How likely a choice is right is worked out from gaps between logits: exact and coarse ones differ by noise, so the draft
is right before another choice at gap g with probability 1 / (1 + exp(-g / scale)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.draft_chains import Chains
from tidemill.actors.compute.drafting.ngram import NgramDraft
from tidemill.actors.compute.drafting.spec import MOST_DRAFTED

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Passes:
    """One at each place [N]: the tokens it brings, draft laps on the chain and beside it, positions it checks."""

    tokens: I64
    laps: I64
    branch_laps: I64
    positions: I64


@dataclass(frozen=True)
class Places:
    """N places of a text, chains of up to `most` drafts behind each."""

    ranks: I64  # [N, most] of the true token, all before being true
    sure: F64  # [N, most] by the coarse model, of its draft behind its own drafts
    gaps: F64  # [N, most, choices] logits to its further choices
    scale: float  # logits

    @property
    def most(self) -> int:
        return int(self.ranks.shape[1])

    @cached_property
    def right(self) -> I64:
        """[N] drafts before the first wrong one."""
        return _leading(self.ranks == 0)

    @cached_property
    def chances(self) -> F64:
        """[N, most] that a draft is right, all before it being right."""
        return 1 / (1 + np.exp(-self.gaps[:, :, 0] / self.scale))

    @cached_property
    def choice_chances(self) -> F64:
        """[N, most, choices] that the chain is right up to here and this choice instead of the next draft."""
        reached = np.cumprod(self.chances, axis=1) / self.chances
        return reached[:, :, None] / (1 + np.exp(self.gaps / self.scale))

    @cached_property
    def missed(self) -> tuple[I64, Bools, I64]:
        """[N] the depth of the first wrong draft, or the last one; whether the true token is a recorded choice there;
        which (0 where it is not)."""
        depth = np.minimum(self.right, self.most - 1)
        choice = self.ranks[np.arange(len(depth)), depth] - 1
        has = (self.right < self.most) & (choice < self.gaps.shape[2])
        return depth, has, np.where(has, choice, 0)


def read_places(chains: Chains, scale: float) -> Places:
    ranks, sure, gaps = zip(*((chain.ranks, chain.sure, chain.gaps) for chain in chains.chains), strict=True)
    return Places(np.array(ranks), np.array(sure), np.array(gaps), scale)


def fit_scale(places: Sequence[Places], scales: Sequence[float]) -> float:
    """The likeliest of `scales`, by drafts behind right ones."""
    first = [np.arange(each.most) <= each.right[:, None] for each in places]
    gaps = np.concatenate([each.gaps[:, :, 0][seen] for each, seen in zip(places, first, strict=True)])
    right = np.concatenate([(each.ranks == 0)[seen] for each, seen in zip(places, first, strict=True)])
    losses = [np.logaddexp(0, np.where(right, -gaps, gaps) / scale).sum() for scale in scales]
    return scales[int(np.argmin(losses))]


# --- how long a chain is: [N]


def stop_below(sure: F64, threshold: float, most: int) -> I64:
    """Until a draft is less `sure` [N, depths] than that, it being the last; `most` at most."""
    return np.minimum(_leading(sure >= threshold) + 1, most)


def draft_while(places: Places, least: F64) -> I64:
    """As long as the next draft is reached with that chance, by its depth [most]; one at least."""
    reached = np.cumprod(places.chances, axis=1)
    return 1 + _leading(reached[:, :-1] >= least[1:])


STOPS: dict[str, Callable[[Places], F64]] = {
    "probability": lambda places: places.sure,
    "probabilities": lambda places: np.cumprod(places.sure, axis=1),
    "gap": lambda places: places.chances,
    "gaps": lambda places: np.cumprod(places.chances, axis=1),
}


# --- what a pass brings


def chain_passes(places: Places, lengths: I64) -> Passes:
    tokens = 1 + np.minimum(places.right, lengths)
    return Passes(tokens, lengths, np.zeros_like(lengths), 1 + lengths)


def tree_passes(
    places: Places, lengths: I64, *, leaf: float, branch: float = 1.0, further: int = 0, checked: int = MOST_DRAFTED
) -> Passes:
    """Chains with what has at least that chance beside them, likeliest first, `checked` tokens at most: second choices
    above `branch` are drafted `further` tokens on, other choices above `leaf` are leaves."""
    chances = np.where(np.arange(places.most)[None, :, None] < lengths[:, None, None], places.choice_chances, -1.0)
    depth, has, choice = places.missed
    rows = np.arange(len(depth))
    hit = np.where(has, chances[rows, depth, choice], 0.0)
    seconds = chances[:, :, 0]
    room = checked - lengths
    branches = np.minimum((seconds >= branch).sum(axis=1), room // (further + 1))
    room = room - branches * (further + 1)
    leaves = np.minimum(np.maximum((chances >= leaf).sum(axis=(1, 2)) - branches, 0), room)
    is_branch = (hit > 0) & (choice == 0) & ((seconds > hit[:, None]).sum(axis=1) < branches)
    is_leaf = (hit > 0) & ~is_branch & ((chances > hit[:, None, None]).sum(axis=(1, 2)) < branches + leaves)
    chain = chain_passes(places, lengths)
    tokens = chain.tokens + is_leaf + np.where(is_branch, 1 + right_behind(places, further), 0)
    return Passes(tokens, lengths, branches * further, 1 + lengths + branches * (further + 1) + leaves)


def right_behind(places: Places, further: int) -> I64:
    """[N] right drafts behind the first wrong place's true token, of `further`; none where the record ends."""
    depths = places.right[:, None] + 1 + np.arange(further)
    inside = depths < places.most
    ranks = np.take_along_axis(places.ranks, np.minimum(depths, places.most - 1), axis=1)
    return _leading((ranks == 0) & inside)


def ngram_passes(chains: Chains, length: int, *, forks: int = 0, further: int = 0) -> Passes:
    """Of drafts by looking back. At the first `forks` depths what followed the latest match with another next token is
    checked as well, with `further` tokens behind it."""
    places = range(chains.start, chains.start + len(chains.chains))
    found = [_ngram_pass(chains.tokens, place, length, forks, further) for place in places]
    tokens, positions = (np.array(each) for each in zip(*found, strict=True))
    return Passes(tokens, np.zeros_like(tokens), np.zeros_like(tokens), positions)


def _ngram_pass(tokens: Sequence[int], place: int, length: int, forks: int, further: int) -> tuple[int, int]:
    """Tokens, positions."""
    draft = NgramDraft(place + length)
    draft.extend(tokens[:place])
    chain = list(draft.propose(length).tokens)
    right = _equal(chain, tokens[place:])
    brought, positions = right + 1, len(chain) + 1
    for depth in range(min(forks, len(chain))):
        fork = other_continuation([*tokens[:place], *chain[:depth]], chain[depth], further + 1)
        positions += len(fork)
        if depth == right:
            brought += _equal(fork, tokens[place + depth :])
    return brought, positions


def other_continuation(history: Sequence[int], avoided: int, most: int) -> list[int]:
    """What followed the longest, then latest match of the history's end with another token than `avoided` behind it;
    `most` tokens at most, up to the history's end."""
    last, best, found = len(history) - 1, 0, -1
    for place in range(last - 1, -1, -1):
        if history[place] == history[last] and history[place + 1] != avoided:
            match = _equal(history[place::-1], history[::-1])
            if match > best:
                best, found = match, place
    return list(history[found + 1 : found + 1 + most]) if best else []


def _equal(one: Sequence[int], other: Sequence[int]) -> int:
    """Leading equal tokens."""
    unequal = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(unequal, min(len(one), len(other)))


def _leading(flags: Bools) -> I64:
    """[N, D] → how many are true before the first that is not, [N]."""
    return np.cumprod(flags, axis=1, dtype=np.int64).sum(axis=1)
