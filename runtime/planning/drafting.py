"""A run with drafts before it runs: the ledger that they need, and what they bring. Pure."""

from dataclasses import dataclass, field, replace

from tidemill.actors.compute.drafting.spec import DraftKind, DraftSpec
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.draft_plan import plan_drafts
from tidemill.runtime.ledger import Demands, Ledger, plan_ledger
from tidemill.runtime.planning.constants import ACCEPTANCE
from tidemill.runtime.planning.draft_prediction import (
    DraftPrediction,
    DraftWork,
    predict_draft,
    work_of_model,
    work_of_planes,
)
from tidemill.runtime.planning.prediction import Prediction, RunShape, predict
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.workload import Workload, plan_workload
from tidemill.storage.arena_plan import plan_arena
from tidemill.storage.manifest import Manifest

WHOLE_BYTES = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """How drafts are asked for. `acceptance`: the share of drafted tokens that are right; None: what is typical.
    `model`: the draft model's own manifest; `cell`: that of both."""

    options: DraftOptions = field(default_factory=DraftOptions)
    acceptance: float | None = None
    model: Manifest | None = None
    cell: Manifest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedRun:
    """`prediction`: of a token that nothing is drafted for, in the arena that drafts need."""

    ledger: Ledger
    drafts: DraftSpec
    prediction: Prediction
    draft: DraftPrediction | None


PLAIN = Drafting()


def plan_drafted(
    manifest: Manifest,
    demands: Demands,
    rates: MachineRates,
    shape: RunShape,
    ceiling_bytes: int | None,
    drafting: Drafting,
) -> DraftedRun:
    """`manifest`: of the model alone. Raises CeilingTooSmallError as opening would."""
    cell = drafting.cell or manifest
    plan = plan_drafts(
        cell,
        demands,
        drafting.options,
        ceiling_bytes=ceiling_bytes,
        arena_bytes=None,
        resident_from=len(manifest.extents) if drafting.cell is not None else None,
    )
    work = plan_workload(cell, plan.ledger.arena)
    draft = _draft_work(manifest, work, plan.spec, drafting)
    prediction = predict(work, rates, shape)
    if draft is None:
        return DraftedRun(ledger=plan.ledger, drafts=plan.spec, prediction=prediction, draft=None)
    plainly = replace(demands, drafts={})
    plain = plan_ledger(manifest, plainly, ceiling_bytes=ceiling_bytes, arena_bytes=None)
    plain_s = predict(plan_workload(manifest, plain.arena), rates, shape).decode_s_per_token
    fixed = plan.spec.fixed_length
    lengths = range(1, plan.spec.most + 1) if fixed is None else (fixed,)
    predicted = predict_draft(work, draft, rates, shape, plain_s=plain_s, lengths=lengths)
    return DraftedRun(ledger=plan.ledger, drafts=plan.spec, prediction=prediction, draft=predicted)


def predicted_kind(spec: DraftSpec, acceptance: float | None) -> DraftKind | None:
    """The kind whose passes are predicted: the last that is tried, as n-grams promise something on some texts only; of
    them alone with a given acceptance."""
    kind = spec.kinds[-1] if spec.kinds else None
    return None if kind == "ngram" and acceptance is None else kind


def _draft_work(manifest: Manifest, work: Workload, spec: DraftSpec, drafting: Drafting) -> DraftWork | None:
    kind = predicted_kind(spec, drafting.acceptance)
    if kind is None:
        return None
    acceptance = drafting.acceptance if drafting.acceptance is not None else ACCEPTANCE[kind]
    match kind:
        case "planes":
            return work_of_planes(manifest, work, acceptance)
        case "model":
            assert drafting.model is not None
            own = plan_workload(drafting.model, plan_arena(drafting.model, WHOLE_BYTES))
            return work_of_model(own, acceptance)
        case "ngram":
            return DraftWork(kind=kind, acceptance=acceptance)
        case "none":
            raise AssertionError("a cell's kinds leave it out")
