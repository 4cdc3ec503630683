"""A cell that holds a second model to draft with: each computes its own tokens, whatever the arena and the order."""

from pathlib import Path

import pytest

from tests.fakes.cells import FakeCell
from tests.fakes.drafts import drafted_tokens
from tests.fakes.flash import Faults
from tests.fakes.models import write_tiny_model
from tests.fakes.resident import greedy, resident_decoder
from tidemill.storage.arena_plan import ArenaPlan, least_arena_bytes, plan_arena
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 4


class Pair:
    def __init__(self, directory: Path) -> None:
        self.model, self.draft = directory / "model", directory / "draft"
        write_tiny_model(self.model)
        write_tiny_model(self.draft, seed=9, layers=2, codec="bf16-planes")
        self.expected = greedy(resident_decoder(self.model), PROMPT, COUNT)
        self.drafted = greedy(resident_decoder(self.draft), PROMPT, COUNT)

    def plan(self, share: float) -> ArenaPlan:
        both, first = load_cell_manifest(self.model, self.draft), len(load_manifest(self.model).extents)
        least = least_arena_bytes(both, "even", first)
        whole = plan_arena(both, 1 << 40, resident_from=first).arena_bytes
        return plan_arena(both, least + int(share * (whole - least)), resident_from=first)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_both_models_of_a_cell_give_their_own_tokens(pair: Pair, share: float) -> None:
    cell = FakeCell(pair.model, pair.plan(share), seed=6, faults=Faults(delay=0.3), draft=pair.draft)
    assert cell.draft_decoder is not None
    assert not cell.draft_decoder.is_loaded
    assert cell.greedy(PROMPT, COUNT) == pair.expected
    cell.settle()
    assert cell.draft_decoder.is_loaded
    assert drafted_tokens(cell.draft_decoder, PROMPT, COUNT) == pair.drafted
    assert cell.greedy([7, *PROMPT], COUNT) == greedy(resident_decoder(pair.model), [7, *PROMPT], COUNT)
    assert drafted_tokens(cell.draft_decoder, PROMPT, COUNT) == pair.drafted
