"""How likely drafted tokens are right, from what was accepted so far. It knows no time and chooses nothing.

Counts per kind of draft (n-grams: per class of match length), old ones fading. A draft's later tokens are another
matter than its first: where the first was right the text is easy, so tokens behind it are counted apart.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tidemill.actors.compute.drafting.spec import DraftKind

MATCH_CLASSES = (2, 3, 5, 8, 16)  # a match of 1 token, of 2, of 3 to 4, of 5 to 7, of 8 to 15, longer
DEPTH_CLASSES = (1, 3)  # the first drafted token, the second and third, those behind
KEEP = 0.93  # of every count, per pass of its kind: a memory of some fifteen passes
PRIOR_TRIES = 12.0  # what the prior weighs at first, in tokens
MEAN_TRIES = 8.0  # what the mean over all depths weighs against a depth's own counts
# Shares of tokens accepted before anything is known; n-grams by match class.
PRIORS: Mapping[DraftKind, tuple[float, ...]] = MappingProxyType(
    {"ngram": (0.35, 0.55, 0.7, 0.8, 0.9, 0.97), "planes": (0.85,), "model": (0.6,)}
)


class _Counts:
    def __init__(self, prior: float) -> None:
        self._tries = [0.0] * (len(DEPTH_CLASSES) + 1)
        self._hits = [0.0] * (len(DEPTH_CLASSES) + 1)
        self._all_tries, self._all_hits = PRIOR_TRIES, PRIOR_TRIES * prior  # at all depths; the prior fades with them

    def add(self, drafted: int, accepted: int) -> None:
        self._tries = [KEEP * count for count in self._tries]
        self._hits = [KEEP * count for count in self._hits]
        tried = min(accepted + 1, drafted)
        for depth in range(tried):
            place = _class_of(depth, DEPTH_CLASSES)
            self._tries[place] += 1
            self._hits[place] += depth < accepted
        self._all_tries = KEEP * self._all_tries + tried
        self._all_hits = KEEP * self._all_hits + accepted

    def shares(self) -> list[float]:
        """By depth class."""
        mean = self._all_hits / self._all_tries
        counts = zip(self._hits, self._tries, strict=True)
        return [(hits + MEAN_TRIES * mean) / (tries + MEAN_TRIES) for hits, tries in counts]


class Acceptance:
    """Of one request."""

    def __init__(self) -> None:
        self._counts = {kind: [_Counts(prior) for prior in priors] for kind, priors in PRIORS.items()}

    def observe(self, kind: DraftKind, match: int, *, drafted: int, accepted: int) -> None:
        """`match`: how many tokens an n-gram draft's context matched, any number for other kinds."""
        self._of(kind, match).add(drafted, accepted)

    def expected(self, kind: DraftKind, match: int, *, most: int) -> list[float]:
        """Tokens that a pass with 0, 1, … `most` drafted tokens is expected to bring: 1 + the probabilities that the
        first, the first two, … are right (Leviathan, Kalman, Matias, ICML 2023, equation 1, where all are equal)."""
        shares = self._of(kind, match).shares()
        tokens, reached = [1.0], 1.0
        for depth in range(most):
            reached *= shares[_class_of(depth, DEPTH_CLASSES)]
            tokens.append(tokens[-1] + reached)
        return tokens

    def _of(self, kind: DraftKind, match: int) -> _Counts:
        counts = self._counts[kind]
        return counts[_class_of(match, MATCH_CLASSES) if kind == "ngram" else 0]


def _class_of(value: int, starts: tuple[int, ...]) -> int:
    return sum(value >= start for start in starts)
