"""Steps that draft give the tokens and the logits of steps that don't, whatever is proposed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cells import CONTEXT, FakeCell, MakeDrafter
from tests.fakes.flash import Faults
from tests.fakes.models import write_tiny_model
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.drafting.coarse_draft import CoarseDraft
from tidemill.actors.compute.drafting.drafter import Drafter, DraftingModel, DraftLap
from tidemill.actors.compute.drafting.model_draft import ModelDraft
from tidemill.actors.compute.drafting.spec import DraftKind, DraftSpec
from tidemill.actors.messages import Sampling, StepCancelled, StepFailed, TokensSampled
from tidemill.actors.packing import unpack_checksums, unpack_tokens
from tidemill.storage.arena_plan import ArenaPlan, least_arena_bytes, plan_arena
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 14
GREEDY = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
SAMPLINGS = [
    GREEDY,
    Sampling(0.9, 0, 1.0, 0.0, 1.0, 7),
    Sampling(1.3, 20, 0.95, 0.01, 1.2, 8),
    Sampling(0.0, 0, 1.0, 0.0, 1.5, 0),
]


@dataclass
class Scripted:
    """Knows the text. `wrong(position)`: whether the token drafted for a position shall be another."""

    text: Sequence[int]
    vocab: int
    wrong: Callable[[int], bool]
    kernel_ns: int = 0
    is_ready: bool = True

    def draft(self, history: Sequence[int]) -> DraftLap:
        place = len(history)
        right = self.text[place] if place < len(self.text) else 0
        logits = np.full(self.vocab, -1e6, np.float32)
        logits[(right + 1) % self.vocab if self.wrong(place) else right] = 1e6
        return logits
        yield


class Model:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = load_manifest(directory)
        self.plan = plan_arena(self.manifest, least_arena_bytes(self.manifest, "plane-0") + 8192, lock_first="plane-0")

    def cell(
        self, make_drafter: MakeDrafter | None = None, sampling: Sampling = GREEDY, faults: Faults | None = None,
        seed: int = 1, plan: ArenaPlan | None = None, chunk: int = 16,
    ) -> FakeCell:  # fmt: skip
        return FakeCell(
            self.directory,
            plan or self.plan,
            seed=seed,
            faults=faults,
            make_drafter=make_drafter,
            sampling=sampling,
            chunk=chunk,
        )

    def expected(self, sampling: Sampling = GREEDY, prompt: Sequence[int] = PROMPT, count: int = COUNT) -> "Text":
        return text_of(self.cell(sampling=sampling), prompt, count)


@dataclass
class Text:
    tokens: list[int]
    checksums: list[int]


def text_of(cell: FakeCell, prompt: Sequence[int], count: int) -> Text:
    steps = cell.generate(prompt, count)
    return Text(
        [token for step in steps for token in unpack_tokens(step.token_ids)],
        [checksum for step in steps for checksum in unpack_checksums(step.checksums)],
    )


def drafting(
    kind: DraftKind, length: int | None, model: DraftingModel | None = None, ends: Sequence[int] = ()
) -> MakeDrafter:
    """`model` None: plane 0, or the cell's draft model."""

    def make(cell: FakeCell, decoder: Decoder) -> Drafter:
        models: dict[DraftKind, DraftingModel] = {}
        if model is not None:
            models[kind] = model
        elif kind == "planes":
            models[kind] = CoarseDraft(decoder)
        elif cell.draft_decoder is not None:
            models[kind] = ModelDraft(cell.draft_decoder, chunk=4)
        spec = DraftSpec(kinds=(kind,), fixed_length=length)
        return Drafter(spec, models, context=CONTEXT, ends=ends, clock_ns=cell.tick)

    return make


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("models") / "tied"
    write_tiny_model(directory, codec="bf16-planes")
    return Model(directory)


@pytest.fixture(scope="module")
def text(tied: Model) -> Text:
    return tied.expected()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_draft_that_is_wrong_at_any_place_changes_nothing(tied: Model, text: Text, length: int) -> None:
    for place in range(length):
        script = Scripted(PROMPT + text.tokens, tied.manifest.decoder.vocab_size, lambda at, p=place: at % length == p)
        cell = tied.cell(drafting("model", length, script))
        assert text_of(cell, PROMPT, COUNT) == text


def test_drafts_that_are_always_wrong_give_the_text_one_token_a_step(tied: Model, text: Text) -> None:
    script = Scripted(PROMPT + text.tokens, tied.manifest.decoder.vocab_size, lambda at: True)
    steps = tied.cell(drafting("model", 4, script)).generate(PROMPT, COUNT)
    assert [len(unpack_tokens(step.token_ids)) for step in steps] == [1] * COUNT
    assert [step.drafted for step in steps[1:-4]] == [4] * (COUNT - 5)


def test_drafts_that_are_always_right_give_one_token_more_than_drafted(tied: Model, text: Text) -> None:
    script = Scripted(PROMPT + text.tokens, tied.manifest.decoder.vocab_size, lambda at: False)
    cell = tied.cell(drafting("model", 3, script))
    steps = cell.generate(PROMPT, COUNT)
    assert [len(unpack_tokens(step.token_ids)) for step in steps] == [1, 4, 4, 4, 1]
    assert [token for step in steps for token in unpack_tokens(step.token_ids)] == text.tokens


@pytest.fixture(scope="module", params=SAMPLINGS)
def sampled(tied: Model, request: pytest.FixtureRequest) -> tuple[Sampling, Text]:
    return request.param, tied.expected(request.param, PROMPT * 3)


@pytest.mark.parametrize("kind", ["planes", "ngram"])
def test_every_draft_gives_the_sampled_text(tied: Model, kind: DraftKind, sampled: tuple[Sampling, Text]) -> None:
    sampling, text = sampled
    for seed, delay in ((1, 0.0), (2, 0.6)):
        cell = tied.cell(drafting(kind, 4), sampling, Faults(delay=delay), seed)
        assert text_of(cell, PROMPT * 3, COUNT) == text


def test_a_draft_stops_at_the_end_of_the_context(tied: Model) -> None:
    prompt = [int(token) for token in np.random.default_rng(3).integers(0, 90, CONTEXT - 6)]
    expected = tied.expected(prompt=prompt, count=7)
    script = Scripted([*prompt, *expected.tokens, 0], tied.manifest.decoder.vocab_size, lambda at: False)
    steps = tied.cell(drafting("model", 15, script)).generate(prompt, 7)
    assert [len(unpack_tokens(step.token_ids)) for step in steps] == [1, 6]
    assert [token for step in steps for token in unpack_tokens(step.token_ids)] == expected.tokens


def test_nothing_is_drafted_behind_an_end(tied: Model, text: Text) -> None:
    script = Scripted(PROMPT + text.tokens, tied.manifest.decoder.vocab_size, lambda at: False)
    end = text.tokens[3]
    second = tied.cell(drafting("model", 8, script, (end,))).generate(PROMPT, COUNT)[1]
    assert second.drafted == text.tokens.index(end)


def test_a_draft_model_that_is_the_model_has_everything_accepted(tied: Model, text: Text) -> None:
    """Resident beside it, with a cache of its own."""
    manifest = load_cell_manifest(tied.directory, tied.directory)
    first = len(tied.manifest.extents)
    plan = plan_arena(manifest, 1 << 30, resident_from=first)
    cell = FakeCell(tied.directory, plan, seed=3, draft=tied.directory, make_drafter=drafting("model", 4))
    steps = cell.generate(PROMPT, COUNT)
    assert [token for step in steps for token in unpack_tokens(step.token_ids)] == text.tokens
    assert all(step.drafted == len(unpack_tokens(step.token_ids)) - 1 for step in steps)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32), wrong=st.sets(st.integers(0, 30)), length=st.integers(1, 15),
    cancels=st.lists(st.integers(0, 200), max_size=2),
)  # fmt: skip
@pytest.mark.slow
def test_no_order_of_events_and_no_cancelled_pass_changes_a_token(
    tied: Model, text: Text, seed: int, wrong: set[int], length: int, cancels: list[int]
) -> None:
    script = Scripted(PROMPT + text.tokens, tied.manifest.decoder.vocab_size, lambda at: at in wrong)
    cell = tied.cell(drafting("model", length, script), faults=Faults(delay=0.3), seed=seed)
    first = cell.run(PROMPT, 0)
    assert isinstance(first, TokensSampled)
    for after in cancels:
        ended = cell.run(unpack_tokens(first.token_ids), len(PROMPT), cancel_after=after, drafts=10)
        assert isinstance(ended, StepCancelled | TokensSampled)
    assert text_of(cell, PROMPT, COUNT) == text


def test_a_check_that_cannot_be_read_ends_the_step_and_the_next_one_is_right(tied: Model, text: Text) -> None:
    faults = Faults(delay=0.2, error=0.15)
    cell = tied.cell(drafting("planes", 4), faults=faults, seed=9)
    tokens: list[int] = []
    pending, start = PROMPT, 0
    for _ in range(80):
        message = cell.run(pending, start, drafts=min(4, COUNT - len(tokens) - 1) if tokens else None)
        if isinstance(message, StepFailed):
            continue
        assert isinstance(message, TokensSampled)
        got = unpack_tokens(message.token_ids)
        start += len(pending) + len(got) - 1
        pending = got[-1:]
        tokens += got
        if len(tokens) == COUNT:
            break
    assert tokens == text.tokens[: len(tokens)]
