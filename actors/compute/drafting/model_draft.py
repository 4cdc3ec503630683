"""Drafts by another, smaller model that lies in the arena whole. It has its own decoder and KV cache."""

from collections.abc import Generator, Sequence

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafting.drafter import F32, DraftLap
from tidemill.actors.compute.step_events import ExtentNeeded, LayerDone, RowsNeeded, StepEvent, StepGenerator
from tidemill.storage.ids import TableId


class ModelDraft:
    """`first_extent`, `first_table`: where the draft model's begin among the cell's."""

    def __init__(self, decoder: Decoder, *, first_extent: int, first_table: int, chunk: int) -> None:
        self._decoder = decoder
        self._first_extent = first_extent
        self._first_table = first_table
        self._chunk = chunk
        self._seen: list[int] = []  # the tokens whose keys and values its cache holds

    @property
    def kernel_ns(self) -> int:
        return self._decoder.kernel_ns

    def draft(self, history: Sequence[int]) -> DraftLap:
        """Computes what of `history` is new to it: a token, or a whole prompt."""
        start = self._common(history)
        del self._seen[start:]
        while True:
            tokens = history[start : start + self._chunk]
            is_last = start + len(tokens) == len(history)
            logits = yield from self._as_of_cell(
                self._decoder.step(tokens, start, want_logits="last" if is_last else "none")
            )
            self._seen += tokens
            start += len(tokens)
            if is_last:
                assert logits is not None
                return logits[-1]

    def _common(self, history: Sequence[int]) -> int:
        """Leading positions that stand in the cache; at least one token is left to compute."""
        most = min(len(self._seen), len(history) - 1)
        return next((i for i in range(most) if self._seen[i] != history[i]), most)

    def _as_of_cell(self, step: StepGenerator) -> Generator[StepEvent, object, F32 | None]:
        """The step's needs by the cell's ids. It gives nothing back: its weights stay."""
        answer: object = None
        while True:
            try:
                event = step.send(answer)
            except StopIteration as end:
                value: F32 | None = end.value
                return value
            answer = None
            match event:
                case ExtentNeeded(extent):
                    answer = yield ExtentNeeded(self._first_extent + extent)
                case RowsNeeded(table, bundles):
                    answer = yield RowsNeeded(TableId(self._first_table + table), bundles)
                case LayerDone():
                    yield event
