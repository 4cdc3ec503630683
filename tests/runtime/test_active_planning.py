from pathlib import Path

import pytest

from tests.fakes.cards import write_card
from tests.fakes.layouts import write_blocky_model
from tests.fakes.rates import RATES
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.active_planning import Grounds, active_shares, options_of, search_ways, small_cache_warning
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.planning.prediction import RunShape
from tidemill.storage.bundle_plan import least_bundle_bytes, plan_bundles
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest_file import load_manifest

TOPK = SelectionSpec(policy="topk", sparsity=0.5)
GROUNDS = Grounds(
    rates=RATES,
    processes={"engine": 1 << 20},
    shape=RunShape(prompt_tokens=4, chunk=64, position=4, io_depth=4, threads=1),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("layouts") / "channels"
    write_blocky_model(directory, LayoutChoice("input-channel", 1))
    write_card(directory, {0.3: 1.1, 0.5: 1.5})
    return directory


def options(model: Path, ram_bytes: int | None = None, selection: SelectionSpec | None = TOPK) -> EngineOptions:
    return EngineOptions(
        model=model, ram_bytes=ram_bytes, arena_bytes=None, context=64, threads=1, load_mode="direct",
        launcher="in-process", io_depth=4, selection=selection,
    )  # fmt: skip


def test_operators_that_stay_whole_keep_their_inputs_whole(model: Path) -> None:
    assert active_shares(model, TOPK) == dict.fromkeys(("qkv", "o", "gate_up", "down"), 0.5)
    some = SelectionSpec(policy="topk", sparsity=0.5, operators=("q", "k", "down"))
    assert active_shares(model, some) == {"qkv": 1.0, "o": 1.0, "gate_up": 1.0, "down": 0.5}
    assert active_shares(model, SelectionSpec(policy="gate", sparsity=0.75)) == {"gate": 0.25}


def test_where_everything_fits_the_ceiling_asks_for_no_sparsity(model: Path) -> None:
    ways, why = search_ways([options(model)], GROUNDS, None)
    assert ways[0].sparsity == 0.0
    assert "fit the ceiling" in why


def test_the_best_way_becomes_options(model: Path) -> None:
    variants = [options(model), options(model)]
    ways, why = search_ways(variants, GROUNDS, 1.5)
    assert {way.place for way in ways} == {0, 1}
    assert "1.5 times" in why
    found = options_of(ways[0], variants)
    assert found.selection is not None
    assert found.selection.sparsity == 0.5
    assert found.preload == ways[0].preload


def test_models_that_cannot_run_the_selection_are_refused(model: Path) -> None:
    gate = SelectionSpec(policy="gate", sparsity=0.5)
    with pytest.raises(ValueError, match="needs gate-first"):
        search_ways([options(model, selection=gate)], GROUNDS, 1.5)
    with pytest.raises(ValueError, match="none was given"):
        search_ways([options(model, selection=None)], GROUNDS, 1.5)


def test_a_cache_below_one_tokens_demand_is_warned_of(model: Path) -> None:
    manifest = load_manifest(model)
    small = plan_bundles(manifest, least_bundle_bytes(manifest), 0)
    whole = plan_bundles(manifest, 1 << 30, 0)
    shares = active_shares(model, TOPK)
    assert "smaller than one token's demand" in (small_cache_warning(manifest, small, shares) or "")
    assert small_cache_warning(manifest, whole, shares) is None
