"""One EvaluateWindow on its way: laps over the layers for each variant and chunk, the head after the last of them."""

from collections.abc import Sequence

import numpy as np

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.evaluation import Evaluation
from tidemill.actors.compute.selection.operators import OPERATORS
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import StepGenerator
from tidemill.actors.messages import (
    EvaluateWindow,
    WindowEvaluated,
)
from tidemill.actors.packing import unpack_tokens


class EvaluationRun:
    """Has the face of a StepRun. Nothing of it stays in the sequence."""

    is_prefill = True
    start = 0

    def __init__(
        self, message: EvaluateWindow, evaluation: Evaluation, *, chunk: int, layer_count: int, now_ns: int
    ) -> None:
        self.message = message
        self.started_ns = now_ns
        self.stall_ns = 0
        self.row_stall_ns = 0
        self.layers_done = 0
        self.lap: StepGenerator | None = None
        self._tokens: Sequence[int] = unpack_tokens(message.token_ids)
        self._evaluation = evaluation
        self._layer_count = layer_count
        variants = range(1 + len(evaluation.policies))
        self._laps = [(variant, at, chunk) for variant in variants for at in range(0, len(self._tokens), chunk)]
        self._begun = 0  # laps
        self._densities = np.ones((len(variants), len(OPERATORS)))
        self._scores = np.zeros((len(variants), 0))

    @property
    def token_ids(self) -> Sequence[int]:
        return self._tokens

    @property
    def positions(self) -> int:
        return len(self._tokens)

    @property
    def has_laps_left(self) -> bool:
        return self._begun < len(self._laps)

    @property
    def next_needs_head(self) -> bool:
        return self._begun + 1 == len(self._laps)

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in layers."""
        return (self._begun - 1) * self._layer_count + self.layers_done, len(self._laps) * self._layer_count

    def find_fault(self, running: object) -> str | None:
        """Why this window cannot be run, with a step `running` or none."""
        if running is None and 2 <= len(self._tokens) <= self._evaluation.window:
            return None
        return f"a window of {len(self._tokens)} tokens, expected 2 to {self._evaluation.window}, and no step beside"

    def begin_lap(self, decoder: Decoder, policy: SelectionPolicy | None) -> None:
        """Each variant has its own policy; that of decoding has no part here."""
        self.lap = self._run_lap(decoder, *self._laps[self._begun], is_last=self.next_needs_head)
        self._begun += 1
        self.layers_done = 0

    def _run_lap(self, decoder: Decoder, variant: int, at: int, chunk: int, *, is_last: bool) -> StepGenerator:
        tokens = self._tokens[at : at + chunk]
        policy = self._evaluation.policies[variant - 1] if variant else None
        if at == 0:
            decoder.take_densities()  # a window that was given up may have left something
        yield from decoder.step(tokens, at, want_logits="none", policy=policy)
        self._evaluation.keep(variant, at, decoder.final_states(len(tokens)))
        if variant and at + chunk >= len(self._tokens):
            self._densities[variant] = decoder.take_densities()
        if is_last:
            comparison = yield from self._evaluation.compare(decoder, self._tokens)
            self._scores = comparison.scores()
        return None

    def answer(self, compute_ns: int, elapsed_ns: int) -> WindowEvaluated:
        return WindowEvaluated(
            self.message.step,
            self._scores.astype("<f8").tobytes(),
            self._densities.astype("<f8").tobytes(),
            compute_ns,
            self.stall_ns,
            elapsed_ns,
        )
