"""What benchmarks/draft_agreement.py counts, on small models."""

import argparse
from pathlib import Path

import pytest

from benchmarks.draft_agreement import (
    PROMPT_TOKENS,
    Agreement,
    Passes,
    built_in_texts,
    draft_passes,
    draw_at,
    follow,
    measure,
    open_decoder,
)
from tests.fakes.models import write_tiny_model
from tests.fakes.resident import resident_decoder
from tidemill.actors.compute.decoder import Decoder

TOKENS = [(7 * i + i * i) % 96 for i in range(PROMPT_TOKENS + 12)]


def decoder_of(directory: Path) -> Decoder:
    write_tiny_model(directory, codec="bf16-planes")
    return open_decoder(directory, context=128, chunk=4, threads=1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_continuation_is_that_of_single_steps(tmp_path: Path, temperature: float) -> None:
    passes = draft_passes(decoder_of(tmp_path / "m"), TOKENS[:PROMPT_TOKENS], 12, 3, draw_at(temperature), 4)
    assert passes.tokens >= 12
    assert passes.tried[0] == passes.passes
    assert passes.tokens == passes.passes + sum(passes.right)
    assert passes.tried[1:] == passes.right[:-1]


def test_drafts_with_the_exact_weights_are_all_right(tmp_path: Path) -> None:
    """A model of one plane drafts with all of it."""
    write_tiny_model(tmp_path / "m")
    decoder = resident_decoder(tmp_path / "m", context=128)
    assert follow(decoder, TOKENS, [draw_at(0.0), draw_at(1.0)], 4) == Agreement(13, {0.0: 13, 1.0: 13})
    assert draft_passes(decoder, TOKENS[:PROMPT_TOKENS], 9, 3, draw_at(1.0), 4) == Passes(12, 3, [3] * 3, [3] * 3)


def test_a_model_without_planes_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m")
    with pytest.raises(SystemExit, match="--codec planes"):
        open_decoder(tmp_path / "m", context=128, chunk=4, threads=1)


def test_there_is_a_row_for_each_text_and_temperature(tmp_path: Path) -> None:
    given = argparse.Namespace(length=2, tokens=4, temperatures=[0.0, 1.0])
    rows = list(measure(decoder_of(tmp_path / "m"), "m", {"a": TOKENS, "b": TOKENS[::-1]}, given))
    assert [(row.text, row.temperature) for row in rows] == [("a", 0.0), ("a", 1.0), ("b", 0.0), ("b", 1.0)]
    assert all(row.following_positions == len(TOKENS) - PROMPT_TOKENS + 1 for row in rows)
    assert all(1 <= row.tokens_per_pass <= 3 and 0 <= row.following_same <= 1 for row in rows)


def test_there_are_texts_of_three_kinds() -> None:
    assert all(len(text) > 4000 for text in built_in_texts().values())
