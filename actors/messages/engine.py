"""What the engine tells compute."""

from tidemill.actors.messages.message import ActorMessage


class Sampling(ActorMessage, frozen=True):
    """How tokens are drawn. temperature 0 is greedy; top_k 0, top_p 1, min_p 0, penalty 1 mean "off"."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    seed: int


class OpenSequence(ActorMessage, frozen=True, tag=1):
    """Start an empty sequence; there is one at a time, and opening ends the one before."""

    sequence: int
    sampling: Sampling


class RunStep(ActorMessage, frozen=True, tag=2):
    """Append `token_ids` (packed i32) at position `start` and, if `sample`, draw the next token.

    `start` may lie before the sequence's end: what stood from there on is forgotten. `drafts`: how many tokens compute
    may propose itself and check in this step; None in the step that begins a request.
    """

    step: int
    sequence: int
    start: int
    token_ids: bytes
    sample: bool
    drafts: int | None = None


class CancelStep(ActorMessage, frozen=True, tag=3):
    """Give the running step up at the next layer; answered by StepCancelled, unless its end was already reported."""

    step: int


class EvaluateWindow(ActorMessage, frozen=True, tag=8):
    """Run `token_ids` (packed i32) from position 0, exactly and under every policy that compute was opened with, and
    compare their next-token distributions. The sequence is empty afterwards."""

    step: int
    token_ids: bytes
