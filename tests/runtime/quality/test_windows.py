"""Evaluation through whole cells: its figures are those of the logits, whatever the launcher, ceiling and chunk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.calibrations import random_tokens, window_options
from tests.fakes.models import TINY, write_tiny_model
from tests.fakes.resident import logits_of, resident_decoder
from tests.fakes.selections import EVERYTHING, HALF
from tests.system.engines import GREEDY, arena_of, tokens_of
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.runtime.engine import Engine
from tidemill.runtime.lab import Lab
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows

TOKENS = random_tokens(150, seed=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(directory, codec="bf16-planes")
    return directory


def evaluated(options: EngineOptions, policies: Sequence[SelectionPolicy]) -> list[Quality]:
    with Engine.open(options, lab=Lab(policies=policies, tap=None, bytes=0)) as engine:
        sums = ScoreSums(TINY, 1 + len(policies))
        for _ in evaluate_windows(engine, cut_windows(TOKENS, options.window), sums, "test"):
            pass
    return list(sums.qualities())


def by_hand(model: Path, policy: SelectionPolicy) -> tuple[float, float, float]:
    """Perplexity, KL and agreement out of whole rows of logits, in f64."""
    nll, kl, agreed, count = 0.0, 0.0, 0, 0
    for window in cut_windows(TOKENS, 64):
        rows = []
        for each in (None, policy):
            decoder = resident_decoder(model, chunk=64, selects=True)
            rows.append(logits_of(decoder, window, policy=each)[:-1].astype(np.float64))
        exact, lossy = (row - np.log(np.exp(row).sum(axis=1, keepdims=True)) for row in rows)
        targets = np.array(window[1:])
        nll -= lossy[np.arange(len(targets)), targets].sum()
        kl += (np.exp(exact) * (exact - lossy)).sum()
        agreed += int((exact.argmax(axis=1) == lossy.argmax(axis=1)).sum())
        count += len(targets)
    return float(np.exp(nll / count)), kl / count, agreed / count


@pytest.mark.slow
@pytest.mark.parametrize("name", HALF)
def test_figures_are_those_of_whole_rows_of_logits(model: Path, name: str) -> None:
    policy = HALF[name](TINY)
    _, quality = evaluated(window_options(model), [policy])
    perplexity, kl, agreement = by_hand(model, policy)
    assert quality.positions == len(TOKENS) - 3
    assert quality.perplexity == pytest.approx(perplexity, rel=1e-5)
    assert quality.kl == pytest.approx(kl, rel=1e-4)
    assert quality.agreement == agreement


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_selected_is_no_distance_from_the_exact_model(model: Path, name: str) -> None:
    exact, quality = evaluated(window_options(model), [EVERYTHING[name](TINY)])
    assert quality == exact
    assert quality.kl == 0.0


@pytest.mark.slow
def test_a_streaming_cell_gives_the_figures_of_a_resident_one(model: Path) -> None:
    policies = [policy(TINY) for policy in HALF.values()]
    resident = evaluated(window_options(model), policies)
    streaming = evaluated(replace(window_options(model), arena_bytes=arena_of(model, 0.2)), policies)
    assert streaming == resident


@pytest.mark.slow
def test_an_engine_generates_after_an_evaluation_as_before(model: Path) -> None:
    with Engine.open(window_options(model)) as engine:
        expected = tokens_of(engine, TOKENS[:9], 6)
        for _ in engine.evaluate(TOKENS[:40]):
            pass
        assert tokens_of(engine, TOKENS[:9], 6) == expected


@pytest.mark.slow
def test_an_evaluation_that_is_closed_leaves_the_engine_usable(model: Path) -> None:
    with Engine.open(window_options(model)) as engine:
        expected = tokens_of(engine, TOKENS[:9], 6)
        events = engine.evaluate(TOKENS[:64])
        next(events)
        events.close()  # type: ignore[attr-defined]
        assert tokens_of(engine, TOKENS[:9], 6) == expected
        assert GREEDY.temperature == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 65])
def test_windows_that_do_not_fit_are_refused(model: Path, count: int) -> None:
    with (
        Engine.open(window_options(model)) as engine,
        pytest.raises(ValueError, match=f"window of {count} tokens; this engine takes 2 to 64"),
    ):
        next(iter(engine.evaluate(TOKENS[:count])))


def test_a_lab_needs_its_actors_in_this_process(model: Path) -> None:
    with pytest.raises(ValueError, match="use in-process"):
        Engine.open(replace(window_options(model), launcher="local"), lab=Lab(policies=(), tap=None, bytes=0))


def test_text_is_cut_into_windows_without_a_last_lonely_token() -> None:
    assert [len(window) for window in cut_windows(range(21), 10)] == [10, 10]
    assert [len(window) for window in cut_windows(range(22), 10)] == [10, 10, 2]
