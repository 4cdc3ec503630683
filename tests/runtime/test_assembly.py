import gc
from dataclasses import replace
from pathlib import Path

from tests.fakes.drafts import drafted_tokens
from tests.fakes.models import write_tiny_model
from tests.fakes.resident import greedy, resident_decoder
from tests.system.engines import options, tokens_of
from tidemill.actors.compute.placement import Placement
from tidemill.actors.counters import Counter
from tidemill.runtime.assembly import build_draft_decoder
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.engine import Engine
from tidemill.runtime.launchers.in_process import InProcessLauncher

PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 4


def test_a_cell_with_a_draft_model_decodes_as_without_and_holds_the_drafts_decoder(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    draft = write_tiny_model(tmp_path / "draft", seed=9, layers=2)
    chosen = DraftOptions(kind="model", model=tmp_path / "draft")
    opened = replace(options(tmp_path / "model", launcher="in-process"), draft=chosen, threads=1)
    with Engine.open(opened) as engine:
        assert tokens_of(engine, PROMPT, COUNT) == greedy(resident_decoder(tmp_path / "model"), PROMPT, COUNT)
        cell = engine._cell
        plan, model = cell.ledger.arena, cell.spec.compute.draft_model
        assert cell.spec.compute.draft.kinds == ("model",)
        assert model is not None
        placement = Placement(len(cell.manifest.extents))
        for slot, extent in enumerate(plan.locked_extents):
            placement.offsets[extent] = plan.offset_of(slot)
        while cell.launcher.counters[Counter.LOCKED_BYTES_LOADED] < engine._locked_bytes:
            cell.launcher.receive(0.01)
        assert isinstance(cell.launcher, InProcessLauncher)
        assert cell.launcher._arena is not None
        decoder = build_draft_decoder(cell.spec, cell.launcher._arena.array, placement)
        assert decoder is not None
        assert decoder.is_loaded
        assert len(draft.extents) == len(cell.manifest.extents) - model.first_extent
        assert drafted_tokens(decoder, PROMPT, COUNT) == greedy(resident_decoder(tmp_path / "draft"), PROMPT, COUNT)
        del decoder, placement
        gc.collect()  # what maps the arena must go before it
