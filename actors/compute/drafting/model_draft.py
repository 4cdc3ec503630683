"""Drafts by another, smaller model that lies in the arena whole."""

from collections.abc import Sequence

from tidemill.actors.compute.drafting.draft_decoder import DraftDecoder
from tidemill.actors.compute.drafting.drafter import F32, DraftLap


class ModelDraft:
    """Computes what of a history is new to it: a token, or a whole prompt."""

    def __init__(self, decoder: DraftDecoder, *, chunk: int) -> None:
        self._decoder = decoder
        self._chunk = chunk
        self._seen: list[int] = []  # the tokens whose keys and values its cache holds

    @property
    def kernel_ns(self) -> int:
        return self._decoder.kernel_ns

    @property
    def is_ready(self) -> bool:
        return self._decoder.is_loaded

    def draft(self, history: Sequence[int]) -> DraftLap:
        start = self._common(history)
        del self._seen[start:]
        while True:
            tokens = history[start : start + self._chunk]
            is_last = start + len(tokens) == len(history)
            logits = yield from self._decoder.step(tokens, start, want_logits="last" if is_last else "none")
            self._seen += tokens
            start += len(tokens)
            if is_last:
                assert logits is not None
                last: F32 = logits[-1]
                return last

    def _common(self, history: Sequence[int]) -> int:
        """Leading positions that stand in the cache; at least one token is left to compute."""
        most = min(len(self._seen), len(history) - 1)
        return next((i for i in range(most) if self._seen[i] != history[i]), most)
