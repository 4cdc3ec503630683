"""One decoding step that drafts: tokens are proposed from what lies in DRAM, then one exact lap checks them all."""

from collections.abc import Sequence

import msgspec

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafting.drafter import Drafter
from tidemill.actors.compute.drafting.passes import Pass
from tidemill.actors.compute.drafting.spec import DraftKind
from tidemill.actors.compute.sampling import sample_positions
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import StepGenerator
from tidemill.actors.compute.step_run import F32, Sampled, StepRun
from tidemill.actors.messages import RunStep, Sampling, TokensSampled
from tidemill.storage.checksums import digest_int


class DraftedRun(StepRun):
    """Exact: a token is what the exact logits of its position give, as without a draft (speculative decoding with
    exact matching; Leviathan et al. 2023, section 2, for deterministic samples)."""

    def __init__(
        self, message: RunStep, drafter: Drafter, history: Sequence[int], sampling: Sampling,
        *, chunk: int, layer_count: int, now_ns: int,
    ) -> None:  # fmt: skip
        """`history` ends with the step's token, once the lap begins."""
        super().__init__(message, chunk=chunk, layer_count=layer_count, now_ns=now_ns)
        self._drafter = drafter
        self._history = history
        self._sampling = sampling
        self._room = min(message.drafts or 0, chunk - 1)  # one lap checks them all
        self._kind: DraftKind = "none"
        self._proposed: list[int] = []
        self._draft_ns = 0
        self._draft_stall_ns = 0

    @property
    def positions(self) -> int:
        return 1 + len(self._proposed)

    def begin_lap(self, decoder: Decoder, policy: SelectionPolicy | None) -> None:
        """Draft laps and the check are one lap to the predictor: only the check passes over what streams."""
        assert policy is None, "drafts are checked by exact laps"
        self.lap = self._draft_and_check(decoder)
        self._begun = len(self.token_ids)

    def _draft_and_check(self, decoder: Decoder) -> StepGenerator:
        clock_ns = self._drafter.clock_ns
        begun_ns = clock_ns()
        choice = self._drafter.choose(self._history, self._room)
        self._kind = choice.kind
        self._proposed = yield from self._drafter.propose(choice, self._history, self._sampling)
        self._draft_ns, self._draft_stall_ns = clock_ns() - begun_ns, self.stall_ns
        return (yield from decoder.step([*self.token_ids, *self._proposed], self.start, want_logits="all"))

    def sample(self, logits: F32 | None, sampling: Sampling, history: Sequence[int]) -> Sampled:
        assert logits is not None
        tokens = sample_positions(logits, sampling, history, start=len(history), proposed=self._proposed)
        return Sampled(tokens, [digest_int(row.data) for row in logits[: len(tokens)]])

    def answer(self, sampled: Sampled, compute_ns: int, elapsed_ns: int) -> TokensSampled:
        self._drafter.learn(
            Pass(
                kind=self._kind,
                drafted=len(self._proposed),
                accepted=len(sampled.token_ids) - 1,
                echoed=self._drafter.count_echoed(sampled.token_ids),
                positions=self.positions,
                draft_ns=self._draft_ns,
                check_ns=elapsed_ns - self._draft_ns,
                stall_ns=self.stall_ns - self._draft_stall_ns,
            )
        )
        return msgspec.structs.replace(
            super().answer(sampled, compute_ns, elapsed_ns),
            draft=self._kind,
            drafted=len(self._proposed),
            draft_ns=self._draft_ns,
        )
