"""A whole cell in one thread: real actors and kernels, a fake flash and a fake clock, every choice drawn from one
seed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.fakes.flash import FakeFlash, Faults
from tidemill.actors.actor import Actor
from tidemill.actors.arena.actor import ArenaActor
from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.compute.actor import ComputeActor
from tidemill.actors.compute.config import ComputeConfig
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafting.draft_decoder import DraftDecoder
from tidemill.actors.compute.drafting.drafter import Drafter
from tidemill.actors.compute.evaluation import Evaluation
from tidemill.actors.compute.masking import Masking
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.counters import new_counters
from tidemill.actors.messages import (
    ActorName,
    CancelStep,
    ChannelsSelected,
    EvaluateWindow,
    Message,
    OpenSequence,
    RunStep,
    Sampling,
    StepCancelled,
    StepFailed,
    TokensSampled,
    WindowEvaluated,
)
from tidemill.actors.packing import pack_tokens, unpack_tokens
from tidemill.actors.predictor.actor import PredictorActor
from tidemill.actors.predictor.config import PredictorConfig, PreloadKind
from tidemill.actors.reader.actor import ReaderActor
from tidemill.actors.reader.config import ReaderConfig
from tidemill.runtime.cell_plan import plan_preload
from tidemill.runtime.launchers.in_process import InProcessCell
from tidemill.storage.arena_plan import ArenaPlan, streamed_ranges
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest_file import load_manifest

GREEDY = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
ENDS = TokensSampled | StepCancelled | StepFailed | WindowEvaluated
MakeDrafter = Callable[["FakeCell", Decoder], Drafter]
CONTEXT = 96
STEPS_MAX = 200_000  # of the scheduler, for one model step: more means that the cell hangs


class FakeCell:
    """Runs steps to their end, whatever order the seed chooses. `print(cell)` names the seed."""

    def __init__(
        self,
        directory: Path,
        plan: ArenaPlan,
        *,
        seed: int,
        faults: Faults | None = None,
        chunk: int = 4,
        tickets: int = 6,
        policy: SelectionPolicy | None = None,
        residency: ResidencyChoice | None = None,
        preload: PreloadKind = "none",
        gate: GateRules | None = None,
        foresight: Foresight | None = None,
        window: int = 0,
        popularity: Mapping[int, bytes] | None = None,
        traces: bool = False,
        make_drafter: MakeDrafter | None = None,
        sampling: Sampling = GREEDY,
        draft: Path | None = None,
    ) -> None:
        """With a `window`, text is evaluated under the policy too. With a `draft`, that model lies in the cell, and
        `draft_decoder` computes with it. `make_drafter` is given the cell and its decoder."""
        self.seed = seed
        manifest = load_cell_manifest(directory, draft)
        self.arena_bytes = np.zeros(plan.arena_bytes, np.uint8)
        self.counters = new_counters()
        self.flash = FakeFlash.of_model(directory, manifest, self.arena_bytes, seed=seed, faults=faults)
        placement = Placement(len(manifest.extents))
        decoder = Decoder(
            manifest,
            self.arena_bytes,
            placement,
            context=CONTEXT,
            chunk=chunk,
            threads=1,
            row_slots=plan.row_slots,
            foresight=foresight,
            masking=Masking(manifest.decoder, chunk, None) if window else None,
        )
        self.draft_decoder: DraftDecoder | None = None
        if draft is not None:
            own = load_manifest(draft)
            part = placement.part(len(manifest.extents) - len(own.extents), len(manifest.extents))
            self.draft_decoder = DraftDecoder(own, self.arena_bytes, part, context=CONTEXT, chunk=chunk, threads=1)
        self._now = 0
        self.arena = ArenaActor(
            ArenaConfig(
                plan=plan,
                tickets=tickets,
                residency=residency or ResidencyChoice("lfu"),
                gate=gate,
                popularity=popularity or {},
            ),
            manifest,
            self.counters,
        )
        compute = ComputeActor(
            ComputeConfig(plan=plan, context=CONTEXT, chunk=chunk, threads=1, traces=traces),
            decoder,
            placement,
            self.counters,
            self.tick,
            Evaluation(manifest, [policy] if policy is not None else [], window) if window else None,
            policy,
            make_drafter(self, decoder) if make_drafter is not None else None,
        )
        head = manifest.head_extents
        predictor = PredictorConfig(
            layer_ranges=streamed_ranges(manifest),
            head_range=(head.start, head.stop),
            preload=plan_preload(manifest, preload, 0.7),
        )
        actors: dict[ActorName, Actor] = {
            ActorName.PREDICTOR: PredictorActor(predictor),
            ActorName.ARENA: self.arena,
            ActorName.READER: ReaderActor(
                ReaderConfig(tickets=tickets, retries=2, bundles=plan.bundles, read_bytes_max=16384),
                manifest,
                self.flash,
                self.counters,
            ),
            ActorName.COMPUTE: compute,
        }
        self.cell = InProcessCell(actors, clock_ns=self.tick, seed=seed, after_delivery=self._validate)
        self.cell.start()
        self.cell.send(OpenSequence(0, sampling))
        self._step = 0
        self._drafts = make_drafter is not None
        self.traced: list[ChannelsSelected] = []

    def __repr__(self) -> str:
        return f"FakeCell(seed={self.seed})"

    def _validate(self, actor: Actor) -> None:
        """Nothing but a message of its own changes the arena's state."""
        if actor is self.arena:
            self.arena.validate()

    def tick(self) -> int:
        """Every look at the clock is a millisecond later, so compute's quantum ends often."""
        self._now += 1_000_000
        return self._now

    def run(
        self, token_ids: Sequence[int], start: int, *, cancel_after: int | None = None, drafts: int | None = None
    ) -> Message:
        """One step; the message that ends it. `cancel_after`: send CancelStep after so many deliveries."""
        self._step += 1
        return self._finish(RunStep(self._step, 0, start, pack_tokens(token_ids), True, drafts), cancel_after)

    def evaluate(self, token_ids: Sequence[int]) -> Message:
        """One window; the message that ends it."""
        self._step += 1
        return self._finish(EvaluateWindow(self._step, pack_tokens(token_ids)), None)

    def _finish(self, command: RunStep | EvaluateWindow, cancel_after: int | None) -> Message:
        self.cell.send(command)
        for count in range(STEPS_MAX):
            if count == cancel_after:
                self.cell.send(CancelStep(self._step))
            self.cell.step()
            for message in self.cell.take_answers():
                if isinstance(message, ChannelsSelected):
                    self.traced.append(message)
                if isinstance(message, ENDS) and message.step == self._step:
                    self.arena.validate()
                    return message
        raise AssertionError(f"seed {self.seed}: the cell hangs")

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        return [token for message in self.generate(prompt, count) for token in unpack_tokens(message.token_ids)]

    def generate(self, prompt: Sequence[int], count: int) -> list[TokensSampled]:
        """The steps that give `count` tokens, with drafts in all but the first if the cell has a drafter."""
        steps: list[TokensSampled] = []
        pending, start, left = list(prompt), 0, count
        while left:
            drafts = min(left - 1, CONTEXT - start - 1) if steps and self._drafts else None
            message = self.run(pending, start, drafts=drafts)
            assert isinstance(message, TokensSampled), f"seed {self.seed}: {message}"
            tokens = unpack_tokens(message.token_ids)
            start += len(pending) + len(tokens) - 1
            pending, left = tokens[-1:], left - len(tokens)
            steps.append(message)
        return steps

    def settle(self) -> None:
        """Deliver everything that is still under way."""
        for _ in range(STEPS_MAX):
            if not self.cell.step():
                return
        raise AssertionError(f"seed {self.seed}: the cell never rests")
