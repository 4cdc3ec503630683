"""Drives the decoder over the arena: waits for extents, releases them, samples. It owns the KV cache and the sequence.

It reads the arena's bytes and never writes them; what lies where it learns from BundlesReady.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.actor import Send
from tidemill.actors.compute.config import ComputeConfig
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafted_run import DraftedRun
from tidemill.actors.compute.drafting.drafter import Drafter
from tidemill.actors.compute.evaluation import Evaluation
from tidemill.actors.compute.evaluation_run import EvaluationRun
from tidemill.actors.compute.held_extents import HeldExtents
from tidemill.actors.compute.held_rows import HeldRows
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import (
    BundlesNeeded,
    BundlesUsed,
    ExtentNeeded,
    ExtentsConsumed,
    LayerDone,
    RowsNeeded,
)
from tidemill.actors.compute.step_meter import StepMeter
from tidemill.actors.compute.step_run import StepRun
from tidemill.actors.compute.visits import Visits
from tidemill.actors.counters import Counters
from tidemill.actors.messages import (
    ActorName,
    BundlesPlaced,
    BundlesReady,
    BundlesUnavailable,
    CancelStep,
    EvaluateWindow,
    LayerEntered,
    Message,
    OpenSequence,
    RowsReady,
    RunStep,
    Sampling,
    SequenceOpened,
    StepAbandoned,
    StepCancelled,
    StepFailed,
    StepProgressed,
)

F32 = npt.NDArray[np.float32]
QUANTUM_NS = 5_000_000  # computed on without looking at the links; short against a person's Ctrl-C, long against a poll


class ComputeActor:
    """One sequence, one step at a time. While a step is blocked, `wants_poll` is false and only a message resumes
    it."""

    name = ActorName.COMPUTE
    wake_fds: Sequence[int] = ()

    def __init__(
        self,
        config: ComputeConfig,
        decoder: Decoder,
        placement: Placement,
        counters: Counters,
        clock_ns: Callable[[], int],
        evaluation: Evaluation | None = None,
        policy: SelectionPolicy | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        """`policy` selects at decoded positions (lossy); a `drafter` proposes tokens there, for exact steps."""
        self._chunk = config.chunk
        self._context = config.context
        self._decoder = decoder
        self._extents = HeldExtents(config.plan, placement)
        self._rows = HeldRows(config.plan)
        self._visits = Visits(config.plan.bundles)
        # Not a method of this actor: nothing may keep it, and so the arena, from going when it is let go.
        self._meter = StepMeter(counters, lambda: decoder.kernel_ns + (drafter.kernel_ns if drafter is not None else 0))
        self._clock_ns = clock_ns
        self._evaluation = evaluation
        self._policy = policy
        self._drafter = drafter
        self._traces = config.traces
        self._streams = config.plan.ring_slots > 0
        self._epoch = 0
        self._failure: tuple[int, str] | None = None  # epoch, what could not be read in it
        self._sequence = -1
        self._history: list[int] = []
        self._sampling = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
        self._run: StepRun | EvaluationRun | None = None
        self._blocked_since: int | None = None
        self._blocked_on: ExtentNeeded | RowsNeeded | BundlesNeeded | None = None
        self._answer: object = None  # what the decoder is sent when it is resumed: where rows or bundles lie

    @property
    def wants_poll(self) -> bool:
        return self._run is not None and (self._blocked_on is None or self._visits.has_news)

    def start(self) -> Sequence[Send]:
        return []

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]:
        match message:
            case OpenSequence(sequence=sequence, sampling=sampling):
                is_new = sequence != self._sequence
                self._sequence, self._sampling = sequence, sampling
                if is_new:
                    self._history.clear()
                    return [Send(ActorName.ARENA, SequenceOpened())]
            case RunStep():
                return self._begin(message, now_ns)
            case EvaluateWindow():
                return self._begin_evaluation(message, now_ns)
            case CancelStep(step=step):
                return self._cancel(step)
            case BundlesReady():
                self._extents.place(message, self._epoch)
                if isinstance(self._blocked_on, ExtentNeeded) and self._extents.holds(self._blocked_on.extent):
                    self._resume()
            case RowsReady():
                self._resume_with(self._rows.place(message, self._epoch))
            case BundlesPlaced():
                self._resume_with(self._visits.place(message))
            case BundlesUnavailable(epoch=epoch, what=what):
                self._failure = (epoch, what)
                return self._fail_if_blocked()
            case _:
                raise TypeError(f"compute has no use for {type(message).__name__}")
        return []

    def poll(self, now_ns: int) -> Sequence[Send]:
        """What can be worked out while reads are under way; else compute until the step ends, blocks, has something to
        release, or the quantum is over."""
        sends = self._visits.tell()
        until_ns = now_ns + QUANTUM_NS
        while self.wants_poll and not sends:
            sends = self._advance()
            if self._clock_ns() >= until_ns:
                break
        return sends

    def stop(self, *, drain: bool) -> Sequence[Send]:
        return self._abandon()

    # --- the life of a step

    def _begin(self, message: RunStep, now_ns: int) -> list[Send]:
        run = self._make_run(message, now_ns)
        fault = run.find_fault(self._run, self._sequence, len(self._history), self._context)
        if fault is not None:
            return [Send(ActorName.ENGINE, StepFailed(message.step, fault))]
        del self._history[message.start :]
        self._history.extend(run.token_ids)
        return self._begin_run(run)

    def _make_run(self, message: RunStep, now_ns: int) -> StepRun:
        layer_count = self._decoder.spec.layer_count
        if self._drafter is None or message.drafts is None:
            if self._drafter is not None:
                self._drafter.begin_request()
            return StepRun(message, chunk=self._chunk, layer_count=layer_count, now_ns=now_ns)
        return DraftedRun(
            message, self._drafter, self._history, self._sampling,
            chunk=self._chunk, layer_count=layer_count, now_ns=now_ns,
        )  # fmt: skip

    def _begin_evaluation(self, message: EvaluateWindow, now_ns: int) -> list[Send]:
        assert self._evaluation is not None, "engines send windows only to cells that were opened for evaluation"
        layer_count = self._decoder.spec.layer_count
        run = EvaluationRun(message, self._evaluation, chunk=self._chunk, layer_count=layer_count, now_ns=now_ns)
        fault = run.find_fault(self._run)
        if fault is not None:
            return [Send(ActorName.ENGINE, StepFailed(message.step, fault))]
        self._history.clear()
        return self._begin_run(run)

    def _begin_run(self, run: StepRun | EvaluationRun) -> list[Send]:
        self._run = run
        self._meter.begin()
        self._decoder.take_densities()  # a step that was given up may have left something
        return self._begin_lap(run)

    def _begin_lap(self, run: StepRun | EvaluationRun) -> list[Send]:
        entered = LayerEntered(run.message.step, self._epoch, 0, run.next_needs_head)
        run.begin_lap(self._decoder, self._policy)
        return [Send(ActorName.PREDICTOR, entered)] if self._streams else []

    def _advance(self) -> list[Send]:
        """Run the decoder to its next layer's end, or until it blocks."""
        run = self._run
        assert run is not None
        assert run.lap is not None
        sends: list[Send] = []
        while True:
            try:
                event = run.lap.send(self._answer)
            except StopIteration as end:
                self._answer = None
                return [*sends, *self._rows.release(), *self._end_lap(run, end.value)]
            self._answer = None
            sends += self._rows.release()
            match event:
                case ExtentsConsumed(start=start, stop=stop):
                    sends += self._extents.release(start, stop)
                case LayerDone():
                    run.layers_done += 1
                    return sends + self._report_progress(run)
                case BundlesUsed():
                    sends.append(self._visits.end())
                case ExtentNeeded() | RowsNeeded() | BundlesNeeded():
                    return sends + self._block(event)

    def _end_lap(self, run: StepRun | EvaluationRun, logits: F32 | None) -> list[Send]:
        if run.has_laps_left:
            return self._begin_lap(run)
        if isinstance(run, EvaluationRun):
            return [Send(ActorName.ENGINE, run.answer(self._count(run), self._clock_ns() - run.started_ns))]
        sampled = run.sample(logits, self._sampling, self._history)
        self._history += sampled.token_ids[:-1]  # the last one is not computed with yet
        return [Send(ActorName.ENGINE, run.answer(sampled, self._count(run), self._clock_ns() - run.started_ns))]

    def _count(self, run: StepRun | EvaluationRun) -> int:
        """A step has ended; its time in kernels."""
        self._run = None
        if isinstance(run, StepRun) and run.is_decoding and self._policy is not None:
            self._meter.count_selection(self._decoder.take_densities())
        return self._meter.end(run.positions, run.stall_ns, run.row_stall_ns, len(self._history))

    def _report_progress(self, run: StepRun | EvaluationRun) -> list[Send]:
        if not run.is_prefill:
            return []
        return [Send(ActorName.ENGINE, StepProgressed(run.message.step, *run.progress))]

    def _cancel(self, step: int) -> list[Send]:
        if self._run is None or self._run.message.step != step:
            return []
        del self._history[self._run.start :]
        return [*self._abandon(), Send(ActorName.ENGINE, StepCancelled(step))]

    def _abandon(self) -> list[Send]:
        """Give the running lap up: nothing that was announced in its epoch is used any more."""
        run, self._run = self._run, None
        self._blocked_on = self._blocked_since = self._answer = None
        if run is None or run.lap is None:
            return []
        run.lap.close()
        self._visits.abandon()
        self._rows.abandon()
        self._extents.abandon()
        self._epoch += 1
        return [Send(ActorName.PREDICTOR, StepAbandoned(self._epoch - 1))]

    # --- blocking and resuming

    def _block(self, need: ExtentNeeded | RowsNeeded | BundlesNeeded) -> list[Send]:
        self._blocked_on = need
        self._blocked_since = self._clock_ns()
        if isinstance(need, BundlesNeeded):
            return [*self._record(need), *self._visits.begin(need, self._epoch), *self._fail_if_blocked()]
        if isinstance(need, RowsNeeded):
            return [self._rows.demand(need, self._epoch), *self._fail_if_blocked()]
        return self._fail_if_blocked()

    def _record(self, need: BundlesNeeded) -> list[Send]:
        if not self._traces or not isinstance(self._run, StepRun):
            return []
        return self._visits.record(need, self._run.message.step, self._run.start)

    def _resume_with(self, places: npt.NDArray[np.int64] | None) -> None:
        """Rows or bundles lie there; None: they are of a lap that was given up."""
        if places is not None:
            self._answer = places
            self._resume()

    def _resume(self) -> None:
        assert self._run is not None
        assert self._blocked_since is not None
        stall_ns = self._clock_ns() - self._blocked_since
        self._run.stall_ns += stall_ns
        if isinstance(self._blocked_on, RowsNeeded):
            self._run.row_stall_ns += stall_ns
        self._blocked_on = self._blocked_since = None

    def _fail_if_blocked(self) -> list[Send]:
        """A failure in this epoch ends the step that waits for its bundles. The next step begins a new epoch."""
        if self._failure is None or self._failure[0] != self._epoch or self._blocked_on is None:
            return []
        assert self._run is not None
        failed = StepFailed(self._run.message.step, self._failure[1])
        del self._history[self._run.start :]
        self._failure = None
        return [*self._abandon(), Send(ActorName.ENGINE, failed)]
