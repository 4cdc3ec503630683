"""A machine on which passes take what a cost model says, with noise; and texts on which drafts are right or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from tidemill.actors.compute.drafting.chooser import DraftChooser
from tidemill.actors.compute.drafting.confidence import Confidence
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import DraftKind


class Drafts(NamedTuple):
    """At a place of a text: how many would be right, and the gap behind each of them, in logits."""

    right: int
    gaps: Sequence[float]


Text = Callable[[DraftKind, int], Drafts]


@dataclass(frozen=True, kw_only=True)
class DraftMachine:
    """Times in ms: a check of n positions takes base + n · position, streaming of a lap `stream`, of which `ahead` can
    be read while drafting. `growth`: of all computing, per token of the text."""

    base: float
    position: float
    draft: Mapping[DraftKind, float] = field(default_factory=lambda: {"ngram": 0.01})
    stream: float = 0.0
    ahead: float = 0.0
    growth: float = 0.0
    noise: float = 0.03
    outliers: float = 0.02  # of the passes take 1.5 to 3 times as long

    def run(self, kind: DraftKind, drafted: int, accepted: int, place: int, rng: np.random.Generator | None) -> Pass:
        """None: without noise."""
        slower = 1 + self.growth * place
        draft = slower * drafted * self.draft.get(kind, 0.0) * self._noise(rng)
        compute = slower * (self.base + self.position * (drafted + 1)) * self._noise(rng)
        check = max(compute, (self.stream - min(draft, self.ahead)) * self._noise(rng)) + 0.1
        return Pass(
            kind=kind,
            drafted=drafted,
            accepted=accepted,
            positions=drafted + 1,
            draft_ns=round(draft * 1e6),
            check_ns=round(check * 1e6),
            stall_ns=round(max(0.0, check - 0.1 - compute) * 1e6),
        )

    def _noise(self, rng: np.random.Generator | None) -> float:
        if rng is None:
            return 1.0
        slow = rng.uniform(1.5, 3.0) if rng.random() < self.outliers else 1.0
        return float(slow * np.exp(self.noise * rng.standard_normal()))


@dataclass(frozen=True, kw_only=True)
class Ran:
    """`seconds` are those of the same choices without noise, so that what is compared is the choices. Passes are noisy
    where somebody chose by them."""

    seconds: float
    passes: Sequence[Pass]

    @property
    def drafted_share(self) -> float:
        return sum(done.drafted > 0 for done in self.passes) / len(self.passes)


def chain_text(right: Callable[[DraftKind, int], float], seed: int = 0, scale: float = 0.3) -> Text:
    """Each drafted token is right with the kind's probability at that place of the text (up to 4096), independently of
    the others, and the same in every run. Where that is above a half, the tokens differ, and the gaps tell how much: a
    token is right with 1 / (1 + exp(-gap / scale)). Elsewhere gaps mean nothing."""
    kinds: tuple[DraftKind, ...] = ("none", "ngram", "planes", "model")
    draws = {kind: np.random.default_rng((seed, i)).random((2, 4096, 15)) for i, kind in enumerate(kinds)}

    @cache
    def draft(kind: DraftKind, place: int) -> Drafts:
        mean, (fates, sure) = right(kind, place), draws[kind][:, place]
        chances = mean + min(mean - 0.5, 1 - mean) * (2 * sure - 1) if mean > 0.5 else np.full(15, mean)
        told = chances if mean > 0.5 else 0.5 + 0.5 * sure
        wrong = fates >= chances
        gaps = scale * np.log(told / np.maximum(1 - told, 1e-9))
        return Drafts(int(np.argmax(wrong)) if wrong.any() else 15, gaps.tolist())

    return draft


def _length(choice: Choice, gaps: Sequence[float], confidence: Confidence) -> int:
    """As drafters do."""
    drafted, chance = 0, 1.0
    while choice.goes_on(drafted, chance):
        chance *= confidence.chance(gaps[drafted])
        drafted += 1
    return drafted


def decode(
    machine: DraftMachine,
    text: Text,
    chooser: DraftChooser | Choice,
    *,
    tokens: int,
    seed: int = 0,
    match: Callable[[int], int] = lambda place: 0,
) -> Ran:
    """`tokens` of the text, by a chooser or with the same choice in each pass (where n-grams match)."""
    rng = np.random.default_rng(seed)
    passes: list[Pass] = []
    confidence = Confidence("planes")
    place, total_ns = 0, 0
    while place < tokens:
        room = tokens - place
        if isinstance(chooser, Choice):
            length = 0 if chooser.kind == "ngram" and match(place) == 0 else min(chooser.length, room - 1)
            choice = Choice(chooser.kind if length else "none", length)
        else:
            choice = chooser.choose(room=room, match=match(place))
        right, gaps = text(choice.kind, place)
        drafted = _length(choice, gaps, confidence)
        accepted = min(right, drafted)
        done = machine.run(choice.kind, drafted, accepted, place, None)
        total_ns += done.total_ns
        if not isinstance(chooser, Choice):
            echoed = min(text("ngram", place).right, accepted + 1, room - 1, 15) if match(place) else 0
            done = replace(machine.run(choice.kind, drafted, accepted, place, rng), echoed=echoed)
            chooser.observe(done)
            if choice.kind == "planes":
                confidence.observe(gaps[:drafted], accepted)
        passes.append(done)
        place += done.tokens
    return Ran(seconds=total_ns / 1e9, passes=passes)
