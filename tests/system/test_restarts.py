"""A cell that loses an actor is opened again, and the text goes on as if nothing had been."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.system.engines import GREEDY, arena_of, checksums_of, options
from tidemill.actors.messages import Sampling
from tidemill.runtime.cell import Cell, open_cell
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import CellRestarted, TokenGenerated
from tidemill.runtime.launchers.launcher import ActorDiedError
from tidemill.runtime.options import EngineOptions

PROMPT = [5, 80, 33, 2]
COUNT = 24
DRAWN = Sampling(0.9, 40, 0.95, 0.0, 1.2, 7)


def restarting(model: Path, draft: str = "none") -> EngineOptions:
    return replace(
        options(model, arena=arena_of(model, 0.2)),
        restarts=3,
        draft=DraftOptions(kind=draft),  # type: ignore[arg-type]  # a choice, as text
    )


def undisturbed(model: Path, sampling: Sampling) -> list[tuple[int, int]]:
    with Engine.open(options(model, launcher="in-process")) as engine:
        events = engine.generate(PROMPT, max_tokens=COUNT, sampling=sampling, stop_ids=())
        return [(event.token_id, event.logits_checksum) for event in events if isinstance(event, TokenGenerated)]


def disturbed(engine: Engine, victims: dict[int, str], sampling: Sampling) -> tuple[list[tuple[int, int]], list[int]]:
    """Tokens with their logits' checksums, and after how many of them cells were restarted. `victims`: who is killed
    behind which token."""
    tokens: list[tuple[int, int]] = []
    restarts = []
    for event in engine.generate(PROMPT, max_tokens=COUNT, sampling=sampling, stop_ids=()):
        if isinstance(event, CellRestarted):
            restarts.append(len(tokens))
            assert event.again == len(PROMPT) + len(tokens)
        if isinstance(event, TokenGenerated):
            tokens.append((event.token_id, event.logits_checksum))
            if victim := victims.pop(len(tokens), None):
                os.kill(engine._cell.launcher.process_ids()[victim], signal.SIGKILL)
    return tokens, restarts


@pytest.fixture(scope="module")
def drawn(tiny: Path) -> list[tuple[int, int]]:
    return undisturbed(tiny, DRAWN)


@pytest.mark.parametrize("victim", ["compute", "reader", "arena", "predictor"])
def test_the_text_goes_on_behind_a_killed_actor(tiny: Path, drawn: list[tuple[int, int]], victim: str) -> None:
    with Engine.open(restarting(tiny)) as engine:
        first = engine._cell.launcher.process_ids()
        tokens, restarts = disturbed(engine, {5: victim}, DRAWN)
        assert tokens == drawn
        assert len(restarts) == engine.report().restarts == 1
        assert not [name for name, process in first.items() if name != "engine" and psutil.pid_exists(process)]


def test_drafts_and_many_deaths_change_nothing(tiny: Path) -> None:
    expected = undisturbed(tiny, GREEDY)
    with Engine.open(restarting(tiny, "ngram")) as engine:
        victims = {1: "reader", 4: "compute", 9: "arena", 15: "predictor", 21: "reader"}
        tokens, restarts = disturbed(engine, victims, GREEDY)
        assert tokens == expected
        assert engine.report().restarts == len(restarts) >= 4  # one that dies beside the last token may not be missed
        assert checksums_of(engine, PROMPT, COUNT) == expected  # and the engine goes on


def test_an_actor_that_dies_whenever_it_is_started_ends_it(tiny: Path) -> None:
    def open_dying() -> Cell:
        cell = open_cell(restarting(tiny), lambda _: None)
        os.kill(cell.launcher.process_ids()["reader"], signal.SIGKILL)
        return cell

    with Engine(restarting(tiny), open_dying) as engine:
        with pytest.raises(ActorDiedError, match="no token came after 3 restarts"):
            list(engine.generate(PROMPT, max_tokens=COUNT, sampling=GREEDY, stop_ids=()))
        assert engine.report().restarts == 3
