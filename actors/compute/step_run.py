"""One RunStep on its way: its chunks, the decoder's generator, and where its time went."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.sampling import sample
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import StepGenerator, WantLogits
from tidemill.actors.messages import RunStep, Sampling, TokensSampled
from tidemill.actors.packing import pack_checksums, pack_tokens, unpack_tokens
from tidemill.storage.checksums import digest_int

F32 = npt.NDArray[np.float32]


class Sampled(NamedTuple):
    """The tokens that a step ends with, and the digest of the logits that each was sampled from."""

    token_ids: Sequence[int] = ()
    checksums: Sequence[int] = ()


class StepRun:
    """A step runs as laps over the layers, one per chunk of at most `chunk` positions; only the last may need the
    head."""

    def __init__(self, message: RunStep, *, chunk: int, layer_count: int, now_ns: int) -> None:
        self.message = message
        self.started_ns = now_ns
        self.stall_ns = 0
        self.row_stall_ns = 0
        self.layers_done = 0
        self.lap: StepGenerator | None = None
        self._tokens: Sequence[int] = unpack_tokens(message.token_ids)
        self._chunk = chunk
        self._layer_count = layer_count
        self._begun = 0  # positions handed to laps so far

    @property
    def token_ids(self) -> Sequence[int]:
        return self._tokens

    @property
    def positions(self) -> int:
        """That the laps compute."""
        return len(self._tokens)

    @property
    def start(self) -> int:
        return self.message.start

    @property
    def has_laps_left(self) -> bool:
        return self._begun < len(self._tokens)

    @property
    def next_needs_head(self) -> bool:
        return self.message.sample and self._begun + self._chunk >= len(self._tokens)

    @property
    def is_prefill(self) -> bool:
        return len(self._tokens) > 1

    @property
    def is_decoding(self) -> bool:
        return len(self._tokens) == 1 and self.message.start > 0

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in layers x positions."""
        chunk_positions = (self._begun - 1) % self._chunk + 1
        before = (self._begun - chunk_positions) * self._layer_count
        return before + self.layers_done * chunk_positions, len(self._tokens) * self._layer_count

    def find_fault(self, running: object, sequence: int, positions: int, context: int) -> str | None:
        """Why this step cannot be run after `positions` of `sequence`, with another one `running` or none."""
        message, stop = self.message, self.message.start + len(self._tokens)
        if running is not None or message.sequence != sequence or message.start > positions:
            return (
                f"step {message.step} of sequence {message.sequence} at position {message.start} does not continue "
                f"sequence {sequence} of {positions} positions"
            )
        if stop > context or not self._tokens:
            return f"positions {message.start}..{stop} do not fit the context of {context} positions"
        return None

    def begin_lap(self, decoder: Decoder, policy: SelectionPolicy | None) -> None:
        """`policy` selects at decoded positions; a prompt is computed with everything."""
        tokens = self._tokens[self._begun : self._begun + self._chunk]
        want: WantLogits = "last" if self.next_needs_head else "none"
        self.lap = decoder.step(
            tokens, self.message.start + self._begun, want_logits=want, policy=policy if self.is_decoding else None
        )
        self._begun += len(tokens)
        self.layers_done = 0

    def sample(self, logits: F32 | None, sampling: Sampling, history: Sequence[int]) -> Sampled:
        """From the last lap's logits [1, vocab]; `history` holds the step's own tokens already."""
        if logits is None:
            return Sampled()
        token = sample(logits[-1], sampling, history, position=len(history))
        return Sampled([token], [digest_int(logits[-1].data)])

    def answer(self, sampled: Sampled, compute_ns: int, elapsed_ns: int) -> TokensSampled:
        return TokensSampled(
            self.message.step,
            self.message.sequence,
            pack_tokens(sampled.token_ids),
            compute_ns,
            self.stall_ns,
            elapsed_ns,
            pack_checksums(sampled.checksums),
        )
