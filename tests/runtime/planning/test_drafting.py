from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.rates import RATES, flat_rates
from tidemill.runtime.draft_options import DraftChoice, DraftOptions
from tidemill.runtime.ledger import MIB, CeilingTooSmallError, Demands, least_ceiling_bytes, plan_ledger
from tidemill.runtime.planning.constants import ACCEPTANCE
from tidemill.runtime.planning.drafting import DraftedRun, Drafting, plan_drafted
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.run_plan import plan_run
from tidemill.runtime.tuning.synthetic_model import plan_synthetic_model
from tidemill.storage.arena_plan import holds_plane_0
from tidemill.storage.draft_model import append_model

PLANES = plan_synthetic_model("bf16-planes", weight_bytes=200 * MIB)
DEMANDS = Demands(
    processes={"engine": 60 * MIB},
    kv_bytes=MIB,
    activation_bytes=MIB,
    link_bytes=MIB,
    bounce_bytes=0,
    drafts={"drafts": 1 << 19},
)
SHAPE = RunShape(prompt_tokens=10, chunk=64, position=10, io_depth=4, threads=2)
LEAST = least_ceiling_bytes(PLANES, DEMANDS, lock_first="plane-0")


def plan(kind: DraftChoice, ceiling_bytes: int | None, acceptance: float | None = None) -> DraftedRun:
    drafting = Drafting(options=DraftOptions(kind=kind), acceptance=acceptance)
    return plan_drafted(PLANES, DEMANDS, flat_rates(0.3e9), SHAPE, ceiling_bytes, drafting)


def test_the_least_ceiling_holds_plane_0_and_a_mebibyte_less_does_not() -> None:
    ledger = plan_ledger(PLANES, DEMANDS, ceiling_bytes=LEAST, arena_bytes=None, lock_first="plane-0")
    assert holds_plane_0(PLANES, ledger.arena)
    with pytest.raises(CeilingTooSmallError):
        plan_ledger(PLANES, DEMANDS, ceiling_bytes=LEAST - MIB, arena_bytes=None, lock_first="plane-0")


def test_planes_are_predicted_with_the_typical_or_the_given_acceptance() -> None:
    typical, given = plan("planes", LEAST).draft, plan("planes", LEAST, 0.5).draft
    assert typical is not None
    assert given is not None
    assert (typical.kind, typical.acceptance) == ("planes", ACCEPTANCE["planes"])
    assert given.acceptance == 0.5
    assert typical.gain_ratio > given.gain_ratio > 1, "the drive is slow"


def test_n_grams_are_predicted_with_a_given_acceptance_alone() -> None:
    assert plan("ngram", LEAST).draft is None
    known = plan("ngram", LEAST, 0.8).draft
    assert known is not None
    assert known.draft_s_per_token == 0


def test_auto_plans_planes_where_they_fit_and_n_grams_below() -> None:
    assert plan("auto", LEAST).drafts.kinds == ("ngram", "planes")
    below = plan("auto", LEAST - MIB)
    assert below.drafts.kinds == ("ngram",)
    assert below.draft is None


def test_the_gain_is_over_the_same_ceiling_without_drafts() -> None:
    run = plan("planes", LEAST)
    alone = plan_run(
        PLANES, replace(DEMANDS, drafts={}), flat_rates(0.3e9), SHAPE, ceiling_bytes=LEAST
    ).prediction.decode_tokens_per_s
    assert run.draft is not None
    assert run.draft.decode_tokens_per_s / run.draft.gain_ratio == pytest.approx(alone)


def test_the_curve_shows_drafts_where_they_fit_and_auto_is_never_behind_none() -> None:
    drafting = Drafting(options=DraftOptions(kind="auto"), acceptance=0.01)
    curve = plan_run(PLANES, DEMANDS, RATES, SHAPE, ceiling_bytes=None, drafting=drafting).curve
    for point in curve:
        if point.ceiling_bytes >= LEAST and point.bottleneck == "flash":  # else smaller reads, being more, take cores
            assert point.drafted_tokens_per_s is not None
            assert point.drafted_tokens_per_s >= 0.97 * point.decode_tokens_per_s
    assert curve[-1].drafted_tokens_per_s == pytest.approx(curve[-1].decode_tokens_per_s)
    typical = Drafting(options=DraftOptions(kind="auto"))
    curve = plan_run(PLANES, DEMANDS, RATES, SHAPE, ceiling_bytes=None, drafting=typical).curve
    assert [p.drafted_tokens_per_s is None for p in curve] == [p.ceiling_bytes < LEAST for p in curve]


def test_a_draft_model_is_planned_with_its_own_work_and_in_the_cells_arena() -> None:
    small = plan_synthetic_model("bf16", weight_bytes=20 * MIB)
    drafting = Drafting(
        options=DraftOptions(kind="model", model=Path("small")),
        model=small,
        cell=append_model(PLANES, small, Path("small")),
    )
    run = plan_drafted(PLANES, DEMANDS, flat_rates(0.3e9), SHAPE, LEAST, drafting)
    assert run.draft is not None
    assert run.draft.kind == "model"
    assert run.drafts.kinds == ("model",)
    first = len(PLANES.extents)
    assert all(run.ledger.arena.is_locked(i) for i in range(first, first + len(small.extents)))
    assert run.draft.draft_s_per_token < plan("planes", LEAST).draft.draft_s_per_token  # type: ignore[union-attr]
