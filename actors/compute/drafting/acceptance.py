"""How many tokens a pass brings and how many it drafts, by how many it may, from what passes did so far. It knows no
time and chooses nothing.

Counts per kind of draft (n-grams: per class of match length), old ones fading. A draft's later tokens are another
matter than its first: where the first was right the text is easy, so tokens behind it are counted apart.

A chain may end before it is as long as it might be, where the drafter is unsure. That is no rejection, but it brings no
further token either: what is counted is what passes that might have drafted n brought, and how many they drafted.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tidemill.actors.compute.drafting.spec import DraftKind

MATCH_CLASSES = (2, 3, 5, 8, 16)  # a match of 1 token, of 2, of 3 to 4, of 5 to 7, of 8 to 15, longer
DEPTH_CLASSES = (1, 3)  # the first drafted token, the second and third, those behind
KEEP = 0.93  # of every count, per pass of its kind: a memory of some fifteen passes
PRIOR_TRIES = 12.0  # what the prior weighs at first, in tokens
MEAN_TRIES = 8.0  # what the mean over all depths weighs against a depth's own counts
TEXT_TRIES = 2.0  # what the priors of n-grams weigh against what the text shows of them all, in tokens accepted
# Shares of tokens accepted before anything is known; n-grams by match class.
PRIORS: Mapping[DraftKind, tuple[float, ...]] = MappingProxyType(
    {"ngram": (0.35, 0.55, 0.7, 0.8, 0.9, 0.97), "planes": (0.85,), "model": (0.6,)}
)


class _Shares:
    """Of passes that came to a depth, those that got beyond it."""

    def __init__(self, prior: float) -> None:
        self.prior = prior
        self._tries = [0.0] * (len(DEPTH_CLASSES) + 1)
        self._hits = [0.0] * (len(DEPTH_CLASSES) + 1)
        self._prior_tries = PRIOR_TRIES

    def add(self, *, reached: int, most: int) -> None:
        """`reached` tokens of `most`. Counts fade where something new is known."""
        seen = [_class_of(depth, DEPTH_CLASSES) for depth in range(min(reached + 1, most))]
        for place in set(seen):
            self._tries[place] *= KEEP
            self._hits[place] *= KEEP
        for depth, place in enumerate(seen):
            self._tries[place] += 1
            self._hits[place] += depth < reached
        self._prior_tries *= KEEP

    def reach(self, most: int, factor: float = 1.0) -> list[float]:
        """How likely passes get to the first, second, … token. `factor`: of the prior."""
        prior_hits = self._prior_tries * self.prior * factor
        mean = (sum(self._hits) + prior_hits) / (sum(self._tries) + self._prior_tries)
        counts = zip(self._hits, self._tries, strict=True)
        shares = [(hits + MEAN_TRIES * mean) / (tries + MEAN_TRIES) for hits, tries in counts]
        reached, last = [], 1.0
        for depth in range(most):
            last *= shares[_class_of(depth, DEPTH_CLASSES)]
            reached.append(last)
        return reached


class Acceptance:
    """Of one request."""

    def __init__(self) -> None:
        self._right = {kind: [_Shares(prior) for prior in priors] for kind, priors in PRIORS.items()}
        self._drafted = {kind: _Shares(1.0) for kind in PRIORS}
        # N-grams of all classes, for whether the text repeats itself at all is one matter: accepted, and by the priors.
        self._text_hits = self._text_expected = 0.0

    def observe(self, kind: DraftKind, *, most: int, drafted: int, accepted: int) -> None:
        """`drafted` of `most` tokens that might have been, by another kind than n-grams."""
        self._right[kind][0].add(reached=accepted, most=most)
        self._drafted[kind].add(reached=drafted - 1, most=most - 1)

    def observe_ngram(self, match: int, *, most: int, right: int) -> None:
        """The first `right` of `most` tokens that are known now are those that looking back proposed, whether they were
        drafted or not. `match`: how many tokens its context matched."""
        shares = self._of("ngram", match)
        self._text_hits = KEEP * self._text_hits + right
        self._text_expected = KEEP * self._text_expected + shares.prior * min(right + 1, most)
        shares.add(reached=right, most=most)

    def right(self, kind: DraftKind, match: int, *, most: int) -> list[float]:
        """How likely the first, the first two, … `most` tokens are drafted and right, in a pass that may draft `most`:
        with the one that every pass brings, their sum is what it is expected to bring (Leviathan, Kalman, Matias, ICML
        2023, equation 1, where all shares are equal)."""
        text = (self._text_hits + TEXT_TRIES) / (self._text_expected + TEXT_TRIES)
        return self._of(kind, match).reach(most, min(1.0, text) if kind == "ngram" else 1.0)

    def drafted(self, kind: DraftKind, *, most: int) -> list[float]:
        """How likely the first, which is certain, the second, … is drafted."""
        return [1.0, *self._drafted[kind].reach(most - 1)]

    def _of(self, kind: DraftKind, match: int) -> _Shares:
        return self._right[kind][_class_of(match, MATCH_CLASSES) if kind == "ngram" else 0]


def _class_of(value: int, starts: tuple[int, ...]) -> int:
    return sum(value >= start for start in starts)
