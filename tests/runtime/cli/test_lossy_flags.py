"""No flag of a lossy mode may be without effect: what cannot have one is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tests.fakes.layouts import write_blocky_model
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.cli.selection_flags import (
    SelectionFlags,
    check_searched,
    parse_preload_share,
    parse_selection,
    parse_sparsity,
)
from tidemill.runtime.options import EngineOptions, check_options, choose_quotas
from tidemill.storage.convert.tables import LayoutChoice

TOPK = SelectionSpec(policy="topk", sparsity=0.5)
GATE = SelectionSpec(policy="gate", sparsity=0.5)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (SelectionFlags(0.3, None, "", "greedy"), "--sparsity"),
        (SelectionFlags(0.0, None, "q,k", "greedy"), "--operators"),
        (SelectionFlags(0.0, None, "", "uniform"), "--allocation"),
        (SelectionFlags(0.5, "gate", "", "uniform"), "--allocation"),
    ],
)
def test_flags_without_their_policy_are_refused(flags: SelectionFlags, named: str) -> None:
    with pytest.raises(typer.BadParameter, match=named):
        parse_selection(flags)


def test_a_share_needs_something_to_preload() -> None:
    assert parse_preload_share("none", None) == parse_preload_share("scaled", None) == 0.5
    assert parse_preload_share("scaled", 0.2) == 0.2
    with pytest.raises(typer.BadParameter, match="--preload"):
        parse_preload_share("none", 0.2)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    model = tmp_path_factory.mktemp("layouts") / "channels"
    write_blocky_model(model, LayoutChoice("input-channel", 1))
    return EngineOptions(
        model=model, ram_bytes=None, arena_bytes=None, context=64, threads=1, load_mode="direct",
        launcher="in-process", io_depth=2, selection=TOPK,
    )  # fmt: skip


def test_a_selection_runs_on_its_layout_alone(options: EngineOptions, tmp_path: Path) -> None:
    assert check_options(replace(options, preload="scaled", residency="lru"), explicit_context=True)
    with pytest.raises(ValueError, match="layout gate-first"):
        check_options(replace(options, selection=GATE), explicit_context=True)


def test_quotas_move_where_they_can_unless_told_otherwise() -> None:
    assert choose_quotas(None, "lfu", TOPK) == "adaptive"
    assert choose_quotas("fixed", "lfu", TOPK) == "fixed"
    assert choose_quotas(None, "lfu", None) == "fixed"
    for kind in ("lru", "window", "hot-set", "none"):
        assert choose_quotas(None, kind, TOPK) == "fixed"  # type: ignore[arg-type]


def test_a_selection_is_evaluated_where_it_runs(options: EngineOptions) -> None:
    assert check_options(replace(options, selection=None, selections=(TOPK,)), explicit_context=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"selection": None, "residency": "lru"}, "residency is lru"),
        ({"selection": None, "quotas": "adaptive"}, "needs a selection and a residency that counts uses"),
        ({"residency": "lru", "quotas": "adaptive"}, "--residency lfu, got lru and the selection topk"),
        ({"quotas": "some"}, "quotas is some, accepted: adaptive, fixed"),
        ({"selection": None, "preload": "scaled"}, "preload is scaled"),
        ({"selection": SelectionSpec(policy="neuron", sparsity=0.5), "preload": "scaled"}, "preload is scaled"),
        ({"selection": None, "selections": (TOPK, GATE)}, "gate is evaluated in layout gate-first"),
    ],
)
def test_what_could_have_no_effect_is_refused(options: EngineOptions, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_options(replace(options, **changes), explicit_context=True)  # type: ignore[arg-type]


def test_a_sparsity_is_a_share_or_searched_for() -> None:
    assert parse_sparsity("0.5", "topk", None) == 0.5
    assert parse_sparsity("auto", "topk", None) is None
    assert parse_sparsity("0", "topk", 1.2) is parse_sparsity("auto", "topk", 1.2) is None


@pytest.mark.parametrize(
    ("text", "select", "floor", "named"),
    [
        ("auto", None, None, "need --select"),
        ("0", None, 1.2, "need --select"),
        ("0.5", "topk", 1.2, "leave out --sparsity 0.5"),
        ("half", "topk", None, "accepted are 0 to 0.9, and auto"),
        ("0.95", "topk", None, "accepted are 0 to 0.9"),
    ],
)
def test_a_search_that_could_have_no_effect_is_refused(
    text: str, select: str | None, floor: float | None, named: str
) -> None:
    with pytest.raises(typer.BadParameter, match=named):
        parse_sparsity(text, select, floor)


def test_what_a_search_chooses_or_cannot_go_by_is_refused_beside_it() -> None:
    check_searched("none", None)
    for preload, arena in (("scaled", None), ("none", "10MiB")):
        with pytest.raises(typer.BadParameter, match="auto"):
            check_searched(preload, arena)
