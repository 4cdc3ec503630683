"""What every launcher must do, through an engine on a tiny model."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tests.fakes.resident import greedy, resident_decoder
from tests.system.engines import GREEDY, arena_of, options, tokens_of
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.launchers.launcher import CellClosedError
from tidemill.runtime.options import LauncherName

PROMPT = [5, 80, 33, 2, 61, 17, 9, 40]


class LauncherContract:
    launcher: LauncherName

    def open(self, tiny: Path, context: int = 200) -> Engine:
        return Engine.open(options(tiny, launcher=self.launcher, arena=arena_of(tiny, 0.3), context=context))

    def test_tokens_are_those_of_the_resident_decoder(self, tiny: Path) -> None:
        expected = greedy(resident_decoder(tiny), PROMPT, 12)
        with self.open(tiny) as engine:
            assert tokens_of(engine, PROMPT, 12) == expected

    def test_a_draft_model_in_the_cell_changes_no_token(self, tiny: Path, tmp_path: Path) -> None:
        write_tiny_model(tmp_path / "draft", seed=9, layers=2)
        draft = DraftOptions(kind="model", model=tmp_path / "draft")
        expected = greedy(resident_decoder(tiny), PROMPT, 12)
        with Engine.open(replace(options(tiny, launcher=self.launcher), draft=draft)) as engine:
            assert tokens_of(engine, PROMPT, 12) == expected

    def test_a_common_prefix_is_not_computed_again(self, tiny: Path) -> None:
        with self.open(tiny) as engine:
            first = tokens_of(engine, PROMPT, 6)
            engine.generate(PROMPT, max_tokens=1, sampling=GREEDY, stop_ids=())
            assert engine._reuse([*PROMPT, *first, 3]) == len(PROMPT) + 5
            assert tokens_of(engine, [*PROMPT, *first[:3]], 3) == first[3:]
            assert tokens_of(engine, PROMPT, 6) == first

    def test_a_closed_generation_leaves_the_engine_usable(self, tiny: Path) -> None:
        with self.open(tiny) as engine:
            expected = tokens_of(engine, PROMPT, 5)
            events = engine.generate([9, 9, 9, 1], max_tokens=50, sampling=GREEDY, stop_ids=())
            for event in events:
                if isinstance(event, TokenGenerated):
                    break
            events.close()  # type: ignore[attr-defined]
            assert tokens_of(engine, PROMPT, 5) == expected

    def test_a_stop_id_ends_and_the_context_is_a_limit(self, tiny: Path) -> None:
        with self.open(tiny, context=40) as engine:
            every = tokens_of(engine, PROMPT, 5)
            events = engine.generate(PROMPT, max_tokens=5, sampling=GREEDY, stop_ids={every[2]})
            got = [event.token_id for event in events if isinstance(event, TokenGenerated)]
            assert got == every[: every.index(every[2]) + 1]
            assert len(tokens_of(engine, PROMPT, 1000)) == engine.context - len(PROMPT) + 1
            with pytest.raises(ValueError, match="the context"):
                tokens_of(engine, [1] * (engine.context + 1), 1)
            with pytest.raises(ValueError, match="token ids"):
                tokens_of(engine, [-1], 1)

    def test_closing_twice_or_unused_is_fine(self, tiny: Path) -> None:
        engine = self.open(tiny)
        engine.close()
        engine.close()

    def test_the_report_is_of_the_launcher_and_adds_up(self, tiny: Path) -> None:
        with self.open(tiny) as engine:
            tokens_of(engine, PROMPT, 2)
            report = engine.report()
        assert report.launcher == self.launcher
        assert report.load_mode == "direct"
        assert report.streamed_bytes > 0
        assert report.flash_bytes >= report.locked_bytes
        assert report.peak_bytes is not None
        assert report.overhead_bytes is not None
        assert report.peak_bytes > report.overhead_bytes > 0

    def test_a_second_generation_ends_the_first_instead_of_mixing_with_it(self, tiny: Path) -> None:
        with self.open(tiny) as engine:
            expected = tokens_of(engine, [9, 9, 7], 4)
            first = engine.generate(PROMPT, max_tokens=8, sampling=GREEDY, stop_ids=())
            assert any(isinstance(event, TokenGenerated) for event in first)
            first = engine.generate(PROMPT, max_tokens=8, sampling=GREEDY, stop_ids=())
            next(event for event in first if isinstance(event, TokenGenerated))
            assert tokens_of(engine, [9, 9, 7], 4) == expected
            with pytest.raises(RuntimeError, match="another generation was begun"):
                next(first)

    def test_a_closed_engine_says_so(self, tiny: Path) -> None:
        with self.open(tiny) as engine:
            tokens_of(engine, PROMPT, 2)
        with pytest.raises(CellClosedError, match="open the model again"):
            tokens_of(engine, [9, 9, 7], 1)
