"""Drafts with plane 0 alone: what they compute, what they need, and that exact steps never notice them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.models import write_tiny_model
from tests.fakes.resident import logits_of, resident_decoder
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.placement import NOT_RESIDENT
from tidemill.actors.compute.step_events import ExtentNeeded, ExtentsConsumed, LayerDone, RowsNeeded, StepEvent

F32 = npt.NDArray[np.float32]
PROMPT, DRAFTED = list(range(3, 13)), [40, 7, 93, 7]


@pytest.fixture(scope="module", params=["bf16-planes", "fp16-planes", "some tables raw"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    if request.param == "some tables raw":
        write_tiny_model(directory, codec="bf16-planes", raw=("attn_out", "mlp"))
    else:
        write_tiny_model(directory, codec=request.param)
    return directory


def prompted(model: Path, *, threads: int = 1) -> Decoder:
    decoder = resident_decoder(model, threads=threads)
    logits_of(decoder, PROMPT)
    return decoder


def draft(decoder: Decoder, token: int, position: int) -> tuple[list[StepEvent], F32]:
    """What a draft that blocks nowhere yields, and a copy of its logits."""
    events: list[StepEvent] = []

    def follow() -> Iterator[StepEvent]:
        logits.append((yield from decoder.draft_step(token, position)).copy())

    logits: list[F32] = []
    events.extend(follow())
    return events, logits[0]


def draft_all(decoder: Decoder) -> F32:
    return np.array([draft(decoder, token, len(PROMPT) + i)[1] for i, token in enumerate(DRAFTED)])


def take_middles(decoder: Decoder) -> None:
    """Plane 1 of every matrix becomes what a draft takes it for."""
    manifest, arena = decoder._manifest, decoder._arena
    for i, extent in enumerate(manifest.extents):
        if extent.plane == 1:
            table, at = manifest.tables[extent.table], decoder._placement.offsets[i]
            weights = (extent.bundle_stop - extent.bundle_start) * table.bundle_elements
            middles = weights if table.element == "f16" else weights // 2
            arena[at : at + middles] = 0x80 if table.element == "f16" else 0x88
            arena[at + middles : at + extent.bytes] = 0  # no exceptions


def remove(decoder: Decoder, extents: list[int]) -> None:
    decoder._placement.offsets[extents] = NOT_RESIDENT


def plane_1(decoder: Decoder) -> list[int]:
    return [i for i, extent in enumerate(decoder._manifest.extents) if extent.plane == 1]


def embed_extents(decoder: Decoder) -> list[int]:
    return [*decoder._manifest.extents_of(decoder._manifest.get_table("embed"))]


def test_a_chain_of_drafts_is_a_step_over_middle_weights(model: Path) -> None:
    drafted = draft_all(prompted(model))
    reference = prompted(model)
    take_middles(reference)
    expected = logits_of(reference, DRAFTED, len(PROMPT))
    exact = logits_of(prompted(model), DRAFTED, len(PROMPT))
    # Sums in another order, rounded through 4 layers; and weights that drafts take for zeros are a table's least power
    # of two here, 2^-15 of its largest. What coarse weights change is more than a hundred times as much.
    assert np.abs(drafted - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(drafted - exact).max() > 1e-2 * np.abs(expected).max()


def test_exact_steps_have_their_bits_after_drafts(model: Path) -> None:
    expected = logits_of(prompted(model), DRAFTED, len(PROMPT))
    decoder = prompted(model)
    for i in range(3):
        draft(decoder, 60 + i, len(PROMPT) + i)
    assert np.array_equal(logits_of(decoder, DRAFTED, len(PROMPT)), expected)


def test_a_draft_needs_plane_0_alone_and_gives_nothing_back(model: Path) -> None:
    decoder = prompted(model)
    events, expected = draft(decoder, 5, len(PROMPT))
    remove(decoder, plane_1(decoder))
    assert draft(decoder, 5, len(PROMPT))[0] == events == [LayerDone(layer) for layer in range(4)]
    assert np.array_equal(draft(decoder, 5, len(PROMPT))[1], expected)
    assert not any(isinstance(event, ExtentsConsumed) for event in events)


def test_a_draft_waits_for_plane_0_before_its_layers(model: Path) -> None:
    decoder = prompted(model)
    expected = draft(decoder, 5, len(PROMPT))[1]
    offsets = decoder._placement.offsets
    where, late = offsets.copy(), [i for i in decoder._manifest.head_extents if decoder._manifest.extents[i].plane == 0]
    remove(decoder, late)
    events: list[StepEvent] = []
    step = decoder.draft_step(5, len(PROMPT))
    while True:
        try:
            events.append(next(step))
        except StopIteration as end:
            assert np.array_equal(end.value, expected)
            break
        if isinstance(events[-1], ExtentNeeded):
            offsets[events[-1].extent] = where[events[-1].extent]
    assert events[: len(late)] == [ExtentNeeded(i) for i in late]
    assert all(isinstance(event, LayerDone) for event in events[len(late) :])


def test_two_threads_give_the_bits_of_one(model: Path) -> None:
    assert np.array_equal(draft_all(prompted(model, threads=2)), draft_all(prompted(model)))


def test_plane_0_of_a_tied_head_stands_in_for_the_embedding(model: Path) -> None:
    decoder = prompted(model)
    exact = draft(decoder, 5, len(PROMPT))[1]
    remove(decoder, embed_extents(decoder))
    from_head = draft(decoder, 5, len(PROMPT))
    assert np.array_equal(from_head[1], exact)  # both planes of the head are there
    remove(decoder, plane_1(decoder))
    events, coarse = draft(decoder, 5, len(PROMPT))
    assert events == from_head[0]
    assert not np.array_equal(coarse, exact)
    assert np.abs(coarse - exact).max() < 0.3 * np.abs(exact).max()


def test_the_row_is_asked_for_where_the_head_is_not_the_embedding(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "untied", codec="bf16-planes", tied=False)
    decoder = prompted(tmp_path / "untied")
    remove(decoder, embed_extents(decoder))
    event = next(decoder.draft_step(5, len(PROMPT)))
    assert isinstance(event, RowsNeeded)
    assert event.bundles.tolist() == [5]
