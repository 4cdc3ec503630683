"""Bits don't depend on batch, chunk, threads, extents or where they lie. Equal means equal."""

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.models import write_tiny_model
from tests.fakes.resident import logits_of, resident_decoder
from tidemill.actors.compute.placement import NOT_RESIDENT
from tidemill.actors.compute.step_events import ExtentNeeded

PROMPT = list(range(3, 43))


@pytest.fixture(scope="module", params=["raw", "bf16-planes"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(directory, codec=request.param)
    return directory


@pytest.fixture(scope="module")
def expected(model: Path) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Token by token, one thread."""
    decoder = resident_decoder(model)
    return np.concatenate([logits_of(decoder, [token], i) for i, token in enumerate(PROMPT)])


@pytest.mark.parametrize("chunk", [*range(2, 18), 31, 32, 40])
def test_a_row_of_a_batch_has_the_bits_of_a_batch_of_one(model: Path, expected: np.ndarray, chunk: int) -> None:  # type: ignore[type-arg]
    decoder = resident_decoder(model, chunk=chunk)
    got = [logits_of(decoder, PROMPT[i : i + chunk], i) for i in range(0, len(PROMPT), chunk)]
    assert np.array_equal(np.concatenate(got), expected)


def test_planes_give_the_bits_of_whole_weights(tmp_path: Path) -> None:
    """With extents cut alike, as the MLP's partial sums follow them."""
    logits = []
    for codec, extent_bytes in (("raw", 8192), ("zstd", 8192), ("bf16-planes", 4096)):
        write_tiny_model(tmp_path / codec, codec=codec, extent_bytes=extent_bytes)
        decoder = resident_decoder(tmp_path / codec, chunk=40)
        first = logits_of(decoder, PROMPT[:1], 0)
        logits.append(np.concatenate([first, logits_of(decoder, PROMPT[1:], 1)]))
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])


def test_two_threads_give_the_bits_of_one(model: Path, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    decoder = resident_decoder(model, chunk=40, threads=2)
    assert np.array_equal(logits_of(decoder, PROMPT), expected)


def test_where_an_extent_lies_does_not_matter(model: Path, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    decoder = resident_decoder(model, chunk=40, gap=3)
    assert np.array_equal(logits_of(decoder, PROMPT), expected)


@pytest.mark.parametrize("seed", range(5))
def test_how_extents_are_grouped_into_ready_runs_does_not_matter(model: Path, expected: np.ndarray, seed: int) -> None:  # type: ignore[type-arg]
    decoder = resident_decoder(model, chunk=40)
    offsets = decoder._placement.offsets
    where = offsets.copy()
    rng = np.random.default_rng(seed)
    embed = decoder._manifest.extents_of(decoder._manifest.get_table("embed"))
    streamed = [i for i in decoder._manifest.layer_extents if i not in embed]
    offsets[streamed] = NOT_RESIDENT
    step = decoder.step(PROMPT, 0, want_logits="all")
    while True:
        try:
            event = next(step)
        except StopIteration as end:
            assert np.array_equal(end.value, expected)
            return
        if isinstance(event, ExtentNeeded):
            run = int(rng.integers(1, 5))
            offsets[event.extent : event.extent + run] = where[event.extent : event.extent + run]


def test_a_step_that_was_given_up_leaves_no_trace(model: Path, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    decoder = resident_decoder(model, chunk=40)
    step = decoder.step([90] * 30, 0, want_logits="all")
    for _ in range(7):
        next(step)
    step.close()
    assert np.array_equal(logits_of(decoder, PROMPT), expected)


def test_rows_are_asked_for_in_groups_when_the_embedding_is_not_resident(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "untied", tied=False)
    decoder = resident_decoder(tmp_path / "untied", chunk=40)
    expected = logits_of(decoder, PROMPT)
    manifest, offsets = decoder._manifest, decoder._placement.offsets
    embed = manifest.extents_of(manifest.get_table("embed"))
    where = offsets.copy()
    offsets[embed.start : embed.stop] = NOT_RESIDENT
    step = decoder.step(PROMPT, 0, want_logits="all")
    answer: object = None
    asked: list[int] = []
    while True:
        try:
            event = step.send(answer)
        except StopIteration as end:
            assert np.array_equal(end.value, expected)
            break
        answer = None
        if type(event).__name__ == "RowsNeeded":
            rows = event.bundles.tolist()  # type: ignore[union-attr]
            asked += rows
            assert len(rows) <= 4
            bundle_bytes = manifest.tables[event.table].bundle_bytes  # type: ignore[union-attr]
            at = [manifest.extent_at(manifest.get_table("embed"), row) for row in rows]
            starts = [manifest.extents[i].bundle_start for i in at]
            answer = np.array([where[i] + (row - s) * bundle_bytes for i, row, s in zip(at, rows, starts, strict=True)])
    assert asked == sorted(set(PROMPT))
