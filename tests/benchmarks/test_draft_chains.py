"""What benchmarks/draft_chains.py records, on a small model."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks.draft_agreement import logits_of, open_decoder
from benchmarks.draft_chains import continue_text, draw_chain, draw_chains, draw_with, record, score
from tests.fakes.models import write_tiny_model
from tests.fakes.resident import resident_decoder
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.sampling import sample

PROMPT = [(7 * i + i * i) % 96 for i in range(64)]


def decoder_of(directory: Path) -> Decoder:
    write_tiny_model(directory, codec="bf16-planes")
    return open_decoder(directory, context=128, chunk=8, threads=1)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_highest_score_is_the_sample(temperature: float) -> None:
    logits = np.random.default_rng(3).normal(size=96).astype(np.float32)
    sampling = draw_with(temperature, seed=5)
    for position in range(20):
        assert int(np.argmax(score(logits, sampling, position))) == sample(logits, sampling, (), position=position)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_chains_do_not_depend_on_what_was_drafted_before(tmp_path: Path, temperature: float) -> None:
    decoder, sampling = decoder_of(tmp_path / "m"), draw_with(temperature, seed=1)
    tokens = continue_text(decoder, PROMPT, 16, sampling, 8)
    chains = list(draw_chains(decoder, tokens, 64, 5, sampling))
    assert len(chains) == 12
    assert continue_text(decoder, tokens[:70], 10, sampling, 8) == tokens
    assert draw_chain(decoder, tokens, 70, 5, sampling) == chains[6]


def test_behind_a_wrong_draft_drafting_goes_on_from_the_right_token(tmp_path: Path) -> None:
    decoder, sampling = decoder_of(tmp_path / "m"), draw_with(0.0, seed=1)
    tokens = continue_text(decoder, PROMPT, 4, sampling, 8)
    tokens[65] = (tokens[65] + 1) % 96  # no draft is this one
    chain = draw_chain(decoder, tokens, 64, 4, sampling)
    wrong = next(depth for depth, rank in enumerate(chain.ranks) if rank)
    assert wrong <= 1
    for depth in range(4):
        at = 64 + depth
        scores = score(logits_of(decoder.draft_step(tokens[at - 1], at - 1)), sampling, at)
        assert chain.ranks[depth] == int((scores > scores[tokens[at]]).sum())
        if depth <= wrong:
            best = np.sort(scores)[::-1]
            assert chain.gaps[depth] == pytest.approx(best[0] - best[1:4], abs=1e-4)
            assert chain.sure[depth] == pytest.approx(1 / np.exp(scores - best[0]).sum(), abs=1e-4)


def test_drafts_with_the_exact_weights_are_all_right(tmp_path: Path) -> None:
    """A model of one plane drafts with all of it."""
    write_tiny_model(tmp_path / "m")
    decoder, sampling = resident_decoder(tmp_path / "m", context=128), draw_with(1.0, seed=1)
    tokens = continue_text(decoder, PROMPT, 10, sampling, 16)
    assert draw_chain(decoder, tokens, 65, 6, sampling).ranks == [0] * 6


def test_greedy_texts_take_one_seed(tmp_path: Path) -> None:
    given = argparse.Namespace(tokens=3, most=2, temperatures=[0.0, 1.0], seeds=[1, 2])
    rows = list(record(decoder_of(tmp_path / "m"), "m", {"a": PROMPT}, given))
    assert [(row.text, row.temperature, row.seed) for row in rows] == [("a", 0.0, 1), ("a", 1.0, 1), ("a", 1.0, 2)]
    for row in rows:
        assert (row.start, len(row.chains), len(row.tokens)) == (64, 3, 68)
        assert all(len(chain.ranks) == len(chain.sure) == len(chain.gaps) == 2 for chain in row.chains)
