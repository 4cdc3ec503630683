from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill import LLM
from tidemill.runtime.text.chat_template import TemplateError


@pytest.fixture
def llm(tmp_path: Path) -> Iterator[LLM]:
    write_tiny_model(tmp_path / "tiny")
    with LLM.open(tmp_path / "tiny", ram=None, launcher="in-process", context=64, threads=1) as opened:
        yield opened


def test_generate_and_stream_give_the_same_text(llm: LLM) -> None:
    generation = llm.generate("w5 w80", max_tokens=6)
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 6
    assert "".join(llm.stream("w5 w80", max_tokens=6)) == generation.text
    assert generation.summary().generated_tokens == 6


def test_a_stream_that_is_closed_stops_and_the_model_goes_on(llm: LLM) -> None:
    expected = llm.generate("w5 w80", max_tokens=4).text
    stream = llm.stream("w9 w9 w9", max_tokens=40)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert llm.generate("w5 w80", max_tokens=4).text == expected


def test_token_ids_are_taken_as_prompt_and_the_context_ends_a_generation(llm: LLM) -> None:
    generation = llm.generate([5, 80], max_tokens=1000)
    assert generation.finish_reason in ("context", "stop")
    assert llm.engine.context == 64


def test_chat_needs_a_template(llm: LLM) -> None:
    with pytest.raises(TemplateError, match="no chat template"):
        llm.chat([{"role": "user", "content": "w1"}])


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("top_p", 0.0), ("min_p", 2.0), ("repeat_penalty", 0.0), ("seed", -1), ("max_tokens", 0)],
)
def test_bad_settings_are_refused_by_name(llm: LLM, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        llm.generate("w1", **{name: value})


def test_a_bad_opening_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    for name, value in (
        ("context", 10_000),
        ("threads", 0),
        ("io_depth", 0),
        ("load_mode", "mmap"),
        ("launcher", "ray"),
        ("ram", "1 potato"),
    ):
        with pytest.raises(ValueError, match=r"accepted|no size"):
            LLM.open(tmp_path / "tiny", **{name: value})  # type: ignore[arg-type]
