"""Drafts by plane 0 of the model's own weights, in the model's own KV cache: the check writes over what they leave."""

from collections.abc import Sequence

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafting.drafter import DraftLap


class CoarseDraft:
    kernel_ns = 0  # the decoder counts them
    is_ready = True  # a prompt was computed with them

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def draft(self, history: Sequence[int]) -> DraftLap:
        return self._decoder.draft_step(history[-1], len(history) - 1)
