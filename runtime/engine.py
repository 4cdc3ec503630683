"""Drives one cell: opens it under a ceiling, runs steps, streams tokens, reports. Knows token ids, not text."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import suppress
from time import perf_counter_ns

from tidemill.actors.counters import Counter
from tidemill.actors.messages import (
    CancelStep,
    ChannelsSelected,
    ComputeToEngine,
    EvaluateWindow,
    OpenSequence,
    RunStep,
    Sampling,
    StepCancelled,
    StepFailed,
    StepProgressed,
    TokensSampled,
    WindowEvaluated,
)
from tidemill.actors.packing import pack_tokens, unpack_bits
from tidemill.runtime.cell import Cell, open_cell
from tidemill.runtime.events import (
    CellRestarted,
    ChannelsTraced,
    GenerationEvent,
    LoadProgressed,
    PrefillProgressed,
    StatusText,
    TokenGenerated,
)
from tidemill.runtime.lab import Lab
from tidemill.runtime.launchers.launcher import ActorDiedError, CellClosedError
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.report import EngineReport, report_of
from tidemill.runtime.restarts import Restarts
from tidemill.runtime.step_division import divide_step
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest

RECEIVE_S = 0.1  # how often a waiting engine looks at the load counter
CANCEL_DEADLINE_S = 60.0  # a running layer ends well before; a dead actor is noticed within 2 s by the launcher


class StepFailedError(RuntimeError):
    """A step could not be computed (unreadable weights, context overrun). The engine can be used further."""


class Engine:
    """One cell and one sequence in it. A context manager; closing ends every process and removes every region."""

    def __init__(self, options: EngineOptions, open_again: Callable[[], Cell]) -> None:
        """`open_again`: a cell for these options, now and after one lost an actor."""
        self.options = options
        self._open_again = open_again
        self._restarts = Restarts(options.restarts)
        self._sequence = 0
        self._generation = 0
        self._step = 0
        self._use(open_again())

    def _use(self, cell: Cell) -> None:
        """It has seen nothing yet."""
        self._cell = cell
        self._sampling: Sampling | None = None
        self._loaded_bytes_told = 0
        self._locked_bytes = sum(cell.manifest.extents[i].bytes for i in cell.ledger.arena.locked_extents)
        self._kv_tokens: list[int] = []  # the tokens whose keys and values are in the cache

    @classmethod
    def open(
        cls, options: EngineOptions, *, on_event: Callable[[StatusText], None] = lambda _: None, lab: Lab | None = None
    ) -> "Engine":
        """Start the actors and divide the ceiling. Weights load while the first prompt is computed. A `lab` needs the
        in-process launcher.

        Raises CeilingTooSmallError, StorageError, ActorDiedError.
        """
        return cls(options, lambda: open_cell(options, on_event, lab))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._cell.close()

    @property
    def bundles(self) -> BundlePlan:
        """Of single bundles, what may stay in the arena."""
        return self._cell.ledger.arena.bundles

    @property
    def manifest(self) -> Manifest:
        return self._cell.manifest

    @property
    def context(self) -> int:
        return self._cell.spec.compute.context

    @property
    def bundle_plan(self) -> BundlePlan:
        """What the arena may keep of each table."""
        return self._cell.ledger.arena.bundles

    def report(self) -> EngineReport:
        return report_of(self._cell, restarts=self._restarts.count)

    def generate(
        self, token_ids: Sequence[int], *, max_tokens: int, sampling: Sampling, stop_ids: Collection[int]
    ) -> Iterator[GenerationEvent]:
        """Continue `token_ids` by up to `max_tokens`, until a stop id (which is the last token told) or the context's
        end.

        Keys and values of a common prefix with the call before are used again. Closing the iterator cancels the step
        under way. Where the options allow restarts, a cell that lost an actor is opened again and goes on behind the
        tokens told so far: what follows is the same. Raises StepFailedError, ActorDiedError, ValueError for a prompt
        that does not fit the context.
        """
        self._check_prompt(token_ids)
        self._open_sequence(sampling)
        start = self._reuse(token_ids)
        history = list(token_ids)
        pending = history[start:]
        self._generation += 1
        generation, told = self._generation, 0
        drafts: int | None = None
        while told < max_tokens:
            if generation != self._generation:
                raise RuntimeError("another generation was begun on this engine; it ended this one")
            if start + len(pending) > self.context:
                return
            try:
                tokens = yield from self._run_step(pending, start, drafts)
            except ActorDiedError as death:
                if self._restarts.end:
                    raise ActorDiedError(f"{death}\n{self._restarts.end}") from death
                if not self._restarts.admit(death):
                    raise
                yield from self._restart(str(death), sampling, len(history))
                start, pending, drafts = 0, list(history), None
                continue
            self._restarts.progressed()
            start += len(pending) + len(tokens) - 1
            pending = [tokens[-1].token_id]
            for token in tokens:
                told += 1
                history.append(token.token_id)
                yield token
                if token.token_id in stop_ids:
                    return
            drafts = max(0, min(max_tokens - told - 1, self.context - start - 1))

    def evaluate(self, token_ids: Sequence[int]) -> Iterator[GenerationEvent | WindowEvaluated]:
        """Compare what the policies that this engine was opened with make of a window of text with what the exact
        model does: progress, then WindowEvaluated. It ends the sequence.

        Raises StepFailedError, ActorDiedError, ValueError for a window longer than the options' or below two tokens.
        """
        if not 2 <= len(token_ids) <= self.options.window:
            raise ValueError(f"a window of {len(token_ids)} tokens; this engine takes 2 to {self.options.window}")
        self._generation += 1
        self._step += 1
        self._kv_tokens.clear()
        self._cell.launcher.send(EvaluateWindow(self._step, pack_tokens(token_ids)))
        done: WindowEvaluated | None = None
        try:
            while done is None:
                yield from self._load_progress()
                for message in self._cell.launcher.receive(RECEIVE_S):
                    if isinstance(message, WindowEvaluated) and message.step == self._step:
                        done = message
                    elif isinstance(message, StepProgressed):
                        yield PrefillProgressed(message.done, message.total)
                    else:
                        self._refuse(message)
        except (GeneratorExit, KeyboardInterrupt):
            if done is None:
                with suppress(CellClosedError):
                    self._cancel()
            raise
        yield done

    def _check_prompt(self, token_ids: Sequence[int]) -> None:
        vocab_size = self.manifest.decoder.vocab_size
        if not token_ids:
            raise ValueError("the prompt is empty: give at least one token")
        if len(token_ids) > self.context:
            raise ValueError(
                f"the prompt has {len(token_ids)} tokens, the context {self.context}; give a larger -c (the model "
                "allows "
                f"{self.manifest.decoder.max_context}) or a shorter prompt"
            )
        if min(token_ids) < 0 or max(token_ids) >= vocab_size:
            raise ValueError(f"token ids must lie in 0..{vocab_size - 1}, got {min(token_ids)}..{max(token_ids)}")

    def _open_sequence(self, sampling: Sampling) -> None:
        if sampling != self._sampling:
            self._sampling = sampling
            self._cell.launcher.send(OpenSequence(self._sequence, sampling))

    def _reuse(self, token_ids: Sequence[int]) -> int:
        """How many leading positions the cache already holds; at least one token is left to run."""
        common = 0
        for ours, theirs in zip(self._kv_tokens, token_ids[:-1], strict=False):
            if ours != theirs:
                break
            common += 1
        return common

    def _run_step(
        self, token_ids: Sequence[int], start: int, drafts: int | None
    ) -> Generator[GenerationEvent, None, Sequence[TokenGenerated]]:
        """One step; its value is the sampled tokens: one, and up to `drafts` more that were drafted and are right."""
        self._step += 1
        launcher, counters = self._cell.launcher, self._cell.launcher.counters
        begun_ns, before = perf_counter_ns(), counters.copy()
        del self._kv_tokens[start:]
        launcher.send(RunStep(self._step, self._sequence, start, pack_tokens(token_ids), True, drafts))
        done: TokensSampled | None = None
        try:
            while done is None:
                yield from self._load_progress()
                for message in launcher.receive(RECEIVE_S):
                    if isinstance(message, TokensSampled) and message.step == self._step:
                        done = message
                    elif isinstance(message, ChannelsSelected) and message.step == self._step:
                        yield _traced(message)
                    elif isinstance(message, StepProgressed):
                        yield PrefillProgressed(message.done, message.total)
                    else:
                        self._refuse(message)
        except (GeneratorExit, KeyboardInterrupt):
            if done is None:
                with suppress(CellClosedError):  # the engine was closed first: nothing is left to be cancelled
                    self._cancel()
            raise
        generated = divide_step(done, perf_counter_ns() - begun_ns, counters - before)
        self._kv_tokens += [*token_ids, *(token.token_id for token in generated[:-1])]
        return generated

    def _restart(self, why: str, sampling: Sampling, again: int) -> Iterator[GenerationEvent]:
        """Raises what opening raises."""
        self._cell.close()
        yield CellRestarted(why.partition("\n")[0], again)
        self._use(self._open_again())
        self._open_sequence(sampling)

    def _load_progress(self) -> Iterator[GenerationEvent]:
        loaded = int(self._cell.launcher.counters[Counter.LOCKED_BYTES_LOADED])
        if loaded != self._loaded_bytes_told:
            self._loaded_bytes_told = loaded
            yield LoadProgressed(loaded, self._locked_bytes)

    def _refuse(self, message: ComputeToEngine) -> None:
        """Raise what a step's failure means; late messages of steps before are dropped."""
        if isinstance(message, StepFailed) and message.step == self._step:
            raise StepFailedError(message.what)

    def _cancel(self) -> None:
        launcher = self._cell.launcher
        launcher.send(CancelStep(self._step))
        until_ns = perf_counter_ns() + int(CANCEL_DEADLINE_S * 1e9)
        while perf_counter_ns() < until_ns:
            for message in launcher.receive(RECEIVE_S):
                ended = isinstance(message, StepCancelled | StepFailed | TokensSampled | WindowEvaluated)
                if ended and message.step == self._step:
                    return


def _traced(message: ChannelsSelected) -> ChannelsTraced:
    return ChannelsTraced(message.position, TableId(message.table), message.layer, unpack_bits(message.channels))
