"""Generations that draft: the same tokens, stops and reuse as without, whatever ends them in the middle of a pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill import LLM
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.generation import Generation

CONTEXT = 64
PROMPT = [5, 80, 33, 5, 80, 33, 5, 80]
DRAFTS = [("ngram", 4), ("planes", 4), ("planes", 15), ("auto", None)]


def open_model(directory: Path, draft: str, length: int | None, ram: int | None = None) -> LLM:
    return LLM.open(
        directory, ram=ram, launcher="in-process", context=CONTEXT, threads=1, draft=draft, draft_length=length
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory, codec="bf16-planes")
    return directory


@pytest.fixture(scope="module")
def plain(directory: Path) -> Iterator[LLM]:
    with open_model(directory, "none", None) as llm:
        yield llm


@pytest.fixture(params=DRAFTS, ids=lambda draft: f"{draft[0]}-{draft[1]}")
def drafting(request: pytest.FixtureRequest, directory: Path) -> Iterator[LLM]:
    with open_model(directory, *request.param) as llm:
        yield llm


def told(generation: Generation) -> list[tuple[int, int]]:
    return [(token.token_id, token.logits_checksum) for token in generation.tokens]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.8},
        {"temperature": 1.5, "top_k": 12, "min_p": 0.02},
        {"temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.3},
        {"repeat_penalty": 1.4},
    ],
)
def test_drafts_change_no_token_and_no_bit(plain: LLM, drafting: LLM, settings: dict[str, float]) -> None:
    for seed in range(3):
        expected = plain.generate(PROMPT, max_tokens=20, seed=seed, **settings)
        assert told(drafting.generate(PROMPT, max_tokens=20, seed=seed, **settings)) == told(expected), f"seed {seed}"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_as_many_tokens_come_as_were_asked_for(plain: LLM, drafting: LLM, count: int) -> None:
    generation = drafting.generate(PROMPT, max_tokens=count)
    assert told(generation) == told(plain.generate(PROMPT, max_tokens=count))
    assert generation.finish_reason == "length"


def test_the_context_ends_inside_a_draft(plain: LLM, drafting: LLM) -> None:
    expected = plain.generate(PROMPT, max_tokens=1000)
    generation = drafting.generate(PROMPT, max_tokens=1000)
    assert generation.finish_reason == expected.finish_reason
    assert told(generation) == told(expected)


def test_a_stop_string_inside_a_draft_ends_the_text_there(plain: LLM, drafting: LLM) -> None:
    text = plain.generate(PROMPT, max_tokens=16).text
    for start in range(2, len(text) - 4, 5):
        stop = text[start : start + 3]
        expected = plain.generate(PROMPT, max_tokens=16, stop=[stop])
        generation = drafting.generate(PROMPT, max_tokens=16, stop=[stop])
        assert (generation.text, generation.finish_reason) == (expected.text, "stop")
        assert told(generation) == told(expected)


def test_a_stop_token_inside_a_draft_is_the_last_one(plain: LLM, drafting: LLM) -> None:
    tokens = plain.generate(PROMPT, max_tokens=16).token_ids
    for stop in sorted(set(tokens)):
        events = drafting.engine.generate(
            PROMPT, max_tokens=16, sampling=drafting.start(PROMPT)._request.sampling, stop_ids=[stop]
        )
        got = [event.token_id for event in events if isinstance(event, TokenGenerated)]
        assert got == tokens[: tokens.index(stop) + 1]


def test_what_follows_a_generation_that_ended_in_a_draft_is_right(plain: LLM, drafting: LLM) -> None:
    """The cache holds drafted positions behind the end; the next prompt shares a part of them."""
    first = drafting.generate(PROMPT, max_tokens=9)
    longer = [*PROMPT, *first.token_ids[:6], 17, 17]
    assert told(drafting.generate(longer, max_tokens=12)) == told(plain.generate(longer, max_tokens=12))
    assert told(drafting.generate(PROMPT, max_tokens=9)) == told(plain.generate(PROMPT, max_tokens=9))


def test_a_generation_that_is_closed_inside_a_pass_leaves_the_model_right(plain: LLM, drafting: LLM) -> None:
    for taken in range(1, 8):
        events = drafting.start(PROMPT, max_tokens=20).events()
        for _ in range(taken):
            next(events)
        events.close()  # type: ignore[attr-defined]
    assert told(drafting.generate(PROMPT, max_tokens=12)) == told(plain.generate(PROMPT, max_tokens=12))


def test_the_summary_tells_of_passes(drafting: LLM) -> None:
    tried = (drafting.generate([5, 80, token], max_tokens=12) for token in range(1, 40))
    generation = next(generation for generation in tried if generation.finish_reason == "length")
    summary = generation.summary()
    assert summary.draft is not None
    assert summary.draft.passes + summary.draft.accepted == 11
    assert summary.draft.accepted <= summary.draft.drafted
    assert sum(counts.passes for counts in summary.draft.by_kind.values()) == summary.draft.passes
    passes = [token.drafted_pass for token in generation.tokens if token.drafted_pass is not None]
    assert sum(p.draft_ns + p.check_ns for p in passes) == sum(token.elapsed_ns for token in generation.tokens[1:])
    assert sum(p.flash_bytes for p in passes) == sum(token.flash_bytes for token in generation.tokens[1:])


def test_without_drafts_the_summary_has_none(plain: LLM) -> None:
    assert plain.generate(PROMPT, max_tokens=3).summary().draft is None
