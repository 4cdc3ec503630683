"""A machine on which passes take what a cost model says, with noise; and texts on which drafts are right or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidemill.actors.compute.drafting.chooser import DraftChooser
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import DraftKind

Chooser = Callable[[int, int], Choice]  # room, match
# How many tokens of the kind's draft would be right at this place of the text.
Text = Callable[[DraftKind, int], int]


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

    def run(self, choice: Choice, accepted: int, place: int, rng: np.random.Generator | None) -> Pass:
        """None: without noise."""
        drafted, slower = choice.length, 1 + self.growth * place
        draft = slower * drafted * self.draft.get(choice.kind, 0.0) * self._noise(rng)
        compute = slower * (self.base + self.position * (drafted + 1)) * self._noise(rng)
        check = max(compute, (self.stream - min(draft, self.ahead)) * self._noise(rng)) + 0.1
        return Pass(
            kind=choice.kind,
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
    """`seconds` are those of the same choices without noise, so that what is compared is the choices."""

    seconds: float
    passes: Sequence[Pass]

    @property
    def drafted_share(self) -> float:
        return sum(done.drafted > 0 for done in self.passes) / len(self.passes)


def chain_text(right: Callable[[DraftKind, int], float], seed: int = 0) -> Text:
    """Each drafted token is right with the kind's probability at that place of the text (up to 4096), independently of
    the others, and the same in every run."""
    kinds: tuple[DraftKind, ...] = ("none", "ngram", "planes", "model")
    fates = {kind: np.random.default_rng((seed, i)).random((4096, 15)) for i, kind in enumerate(kinds)}

    def count_right(kind: DraftKind, place: int) -> int:
        wrong = fates[kind][place] >= right(kind, place)
        return int(np.argmax(wrong)) if wrong.any() else 15

    return count_right


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
    place, total_ns = 0, 0
    while place < tokens:
        room = tokens - place
        if isinstance(chooser, Choice):
            length = 0 if chooser.kind == "ngram" and match(place) == 0 else min(chooser.length, room - 1)
            choice = Choice(chooser.kind if length else "none", length)
        else:
            choice = chooser.choose(room=room, match=match(place))
        accepted = min(text(choice.kind, place), choice.length)
        done = machine.run(choice, accepted, place, rng)
        if not isinstance(chooser, Choice):
            chooser.observe(done)
        passes.append(done)
        total_ns += machine.run(choice, accepted, place, None).total_ns
        place += done.tokens
    return Ran(seconds=total_ns / 1e9, passes=passes)
