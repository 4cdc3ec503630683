"""Whole cells under chosen orders, delays and faults: the tokens are always those of the resident model."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cells import FakeCell
from tests.fakes.flash import Faults
from tests.fakes.models import write_tiny_model
from tests.fakes.resident import greedy, resident_decoder
from tidemill.actors.counters import Counter
from tidemill.actors.messages import StepCancelled, StepFailed, TokensSampled
from tidemill.storage.arena_plan import ArenaPlan, ArenaTooSmallError, least_arena_bytes, plan_arena
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 4


class Model:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest: Manifest = load_manifest(directory)
        self.expected = greedy(resident_decoder(directory), PROMPT, COUNT)

    def plan(self, share: float) -> ArenaPlan:
        """The arena at a share of the weights; 0: its minimum."""
        whole = plan_arena(self.manifest, 1 << 40).arena_bytes
        minimum = plan_minimum(self.manifest)
        return plan_arena(self.manifest, max(minimum, int(whole * share)))


def plan_minimum(manifest: Manifest) -> int:
    with pytest.raises(ArenaTooSmallError) as caught:
        plan_arena(manifest, 1)
    return caught.value.minimum_bytes


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("models") / "tied"
    write_tiny_model(directory, codec="bf16-planes")
    return Model(directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Weights of one plane, and a head that is the embedding."""
    directory = tmp_path_factory.mktemp("models") / "whole"
    write_tiny_model(directory)
    return Model(directory)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("models") / "untied"
    write_tiny_model(directory, tied=False, codec="zstd")
    return Model(directory)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.1])
def test_every_arena_gives_the_resident_tokens(tied: Model, whole: Model, untied: Model, share: float) -> None:
    for model in (tied, whole, untied):
        cell = FakeCell(model.directory, model.plan(share), seed=1)
        assert cell.greedy(PROMPT, COUNT) == model.expected
        streamed = int(cell.counters[Counter.STREAMED_BYTES])
        assert (streamed == 0) == (share > 1)


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_an_arena_that_locks_plane_0_first_gives_the_same_tokens_and_streams_plane_1(tied: Model, delay: float) -> None:
    manifest = tied.manifest
    plan = plan_arena(manifest, least_arena_bytes(manifest, "plane-0"), lock_first="plane-0")
    cell = FakeCell(tied.directory, plan, seed=4, faults=Faults(delay=delay))
    assert cell.greedy(PROMPT, COUNT) == tied.expected
    matrices = {(e.shard, e.offset): e for e in manifest.extents[manifest.layer_extents.start :]}
    reads = [matrices[at] for request in cell.flash.submitted if (at := (request.shard, request.offset)) in matrices]
    assert sorted(e.plane for e in reads).index(1) == sum(e.plane == 0 for e in matrices.values()), "each once"
    assert cell.counters[Counter.STREAMED_BYTES] >= sum(e.bytes for e in matrices.values() if e.plane == 1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.3, 0.6]),
    delay=st.sampled_from([0.0, 0.5, 0.95]),
    chunk=st.integers(1, 8),
    tickets=st.integers(1, 12),
)
@pytest.mark.slow
def test_no_order_of_events_changes_a_token(
    tied: Model, seed: int, share: float, delay: float, chunk: int, tickets: int
) -> None:
    cell = FakeCell(
        tied.directory, tied.plan(share), seed=seed, faults=Faults(delay=delay), chunk=chunk, tickets=tickets
    )
    assert cell.greedy(PROMPT, COUNT) == tied.expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cancels=st.lists(st.integers(0, 300), min_size=1, max_size=4))
@pytest.mark.slow
def test_cancelled_steps_leave_no_trace(tied: Model, seed: int, cancels: list[int]) -> None:
    cell = FakeCell(tied.directory, tied.plan(0.2), seed=seed, faults=Faults(delay=0.3))
    for after in cancels:
        ended = cell.run([90, 4, 4, 71, 8, 15, 1, 66, 2], 0, cancel_after=after)
        assert isinstance(ended, StepCancelled | TokensSampled)
    assert cell.greedy(PROMPT, COUNT) == tied.expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.slow
def test_faults_are_retried_or_end_the_step_and_never_change_a_token(untied: Model, seed: int) -> None:
    faults = Faults(delay=0.2, error=0.08, corrupt=0.08, short=0.08)
    cell = FakeCell(untied.directory, untied.plan(0.3), seed=seed, faults=faults)
    tokens: list[int] = []
    pending, start = PROMPT, 0
    for _ in range(60):
        message = cell.run(pending, start)
        if isinstance(message, StepFailed):
            assert re.search(r"could not be read in [234] tries", message.what)
            continue  # the same step again: the cell goes on
        assert isinstance(message, TokensSampled)
        start += len(pending)
        pending = [int.from_bytes(message.token_ids, "little")]
        tokens += pending
        if len(tokens) == COUNT:
            break
    assert tokens == untied.expected[: len(tokens)]


def test_a_device_that_always_fails_ends_the_step_with_its_reason(tied: Model) -> None:
    cell = FakeCell(tied.directory, tied.plan(0.3), seed=3, faults=Faults(error=1.0))
    ended = cell.run(PROMPT, 0)
    assert isinstance(ended, StepFailed)
    assert "injected I/O error" in ended.what
    assert "of layer" in ended.what or "norm" in ended.what


def test_the_same_seed_replays_the_same_cell(tied: Model) -> None:
    runs = []
    for _ in range(2):
        cell = FakeCell(tied.directory, tied.plan(0.3), seed=11, faults=Faults(delay=0.4))
        cell.greedy(PROMPT, 2)
        runs.append([request[:4] for request in cell.flash.submitted])
    assert runs[0] == runs[1]


def test_the_next_lap_is_read_ahead_while_this_one_is_computed(tied: Model) -> None:
    cell = FakeCell(tied.directory, tied.plan(0.0), seed=2)
    cell.run(PROMPT, 0)
    first = len(cell.flash.submitted)
    for _ in range(2000):
        cell.cell.step()
    assert len(cell.flash.submitted) > first, "the ring stays empty between steps"
    assert all(ring.free_count == 0 for ring in cell.arena._rings)


def test_a_prompt_that_does_not_fit_is_refused_and_the_cell_goes_on(tied: Model) -> None:
    cell = FakeCell(tied.directory, tied.plan(0.3), seed=5)
    ended = cell.run([1] * 97, 0)
    assert isinstance(ended, StepFailed)
    assert "context of 96" in ended.what
    assert cell.greedy(PROMPT, COUNT) == tied.expected
