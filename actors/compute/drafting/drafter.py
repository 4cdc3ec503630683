"""Proposes tokens for an exact check, by whoever promises most, and learns from what became of them."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.drafting.chooser import NONE, DraftChooser
from tidemill.actors.compute.drafting.confidence import Confidence
from tidemill.actors.compute.drafting.ngram import NgramDraft, NgramProposal
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import DraftKind, DraftSpec
from tidemill.actors.compute.sampling import rank
from tidemill.actors.compute.step_events import StepEvent
from tidemill.actors.messages import Sampling

F32 = npt.NDArray[np.float32]
DraftLap = Generator[StepEvent, object, F32]


class DraftingModel(Protocol):
    """What is computed for a draft: a coarse reading of the model itself, or a smaller model."""

    @property
    def kernel_ns(self) -> int:
        """Spent in kernels that the exact decoder does not count."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether its weights lie in the arena."""
        ...

    def draft(self, history: Sequence[int]) -> DraftLap:
        """Logits [vocab] of the token behind `history`, whose last token was not computed with yet."""
        ...


class Drafter:
    """Of one sequence. Its tokens are guesses: nothing rests on them but speed."""

    def __init__(
        self,
        spec: DraftSpec,
        models: Mapping[DraftKind, DraftingModel],
        *,
        context: int,
        ends: Collection[int],
        clock_ns: Callable[[], int],
    ) -> None:
        """`models`: who computes drafts, by kind. `ends`: tokens behind which nothing is drafted."""
        self._spec = spec
        self._models = models
        self._ends = frozenset(ends)
        self._chooser = DraftChooser(spec.kinds, spec.most, spec.fixed_length)
        self._ngram = NgramDraft(context) if "ngram" in spec.kinds else None
        self._found = NgramProposal((), 0)
        self._confidences = {kind: Confidence(kind) for kind in models}
        self._gaps: list[float] = []  # behind the tokens of the last chain
        self.clock_ns = clock_ns

    @property
    def kernel_ns(self) -> int:
        return sum(model.kernel_ns for model in self._models.values())

    def begin_request(self) -> None:
        """Another text: what the last one accepted does not count."""
        self._chooser.begin_request()
        if self._ngram is not None:
            self._ngram.truncate(0)

    def choose(self, history: Sequence[int], room: int) -> Choice:
        """Who drafts behind `history`, and how many tokens, at most `room`."""
        if self._ngram is not None:
            self._ngram.extend(history[len(self._ngram) :])
            self._found = self._ngram.propose(min(room, self._spec.most))
        if not all(model.is_ready for model in self._models.values()):
            return NONE
        return self._chooser.choose(room=room + 1, match=self._found.match)

    def propose(
        self, choice: Choice, history: Sequence[int], sampling: Sampling
    ) -> Generator[StepEvent, object, list[int]]:
        """The tokens, drawn with the noise that the check will draw with. A chain ends where what follows is too likely
        in vain."""
        self._gaps = []
        if choice.kind == "none":
            return []
        if choice.kind == "ngram":
            return list(self._found.tokens[: choice.length])
        model, confidence = self._models[choice.kind], self._confidences[choice.kind]
        seen, chance = list(history), 1.0
        while choice.goes_on(len(self._gaps), chance) and (not self._gaps or seen[-1] not in self._ends):
            logits = yield from model.draft(seen)
            ranked = rank(logits, sampling, seen, position=len(seen))
            seen.append(ranked.token)
            self._gaps.append(ranked.gap)
            chance *= confidence.chance(ranked.gap)
        return seen[len(history) :]

    def count_echoed(self, tokens: Sequence[int]) -> int:
        """How many of the `tokens` that a pass brought are what looking back proposed for it."""
        pairs = zip(tokens, self._found.tokens, strict=False)
        return next(
            (i for i, (token, found) in enumerate(pairs) if token != found), min(len(tokens), len(self._found.tokens))
        )

    def learn(self, done: Pass) -> None:
        self._chooser.observe(done)
        if self._gaps:
            self._confidences[done.kind].observe(self._gaps, done.accepted)
