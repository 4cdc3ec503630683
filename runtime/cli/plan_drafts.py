"""What `tidemill plan` takes as given of drafts, and what it says of them."""

from collections.abc import Sequence

import typer

from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.planning.constants import COARSE
from tidemill.runtime.planning.draft_prediction import DraftPrediction
from tidemill.runtime.planning.drafting import Drafting
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import RunPlan
from tidemill.runtime.sizes import format_seconds
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest


def planned_draft(draft: DraftOptions, acceptance: float | None, manifest: Manifest) -> DraftOptions:
    """Drafts are predicted for the dense layout; "auto" plans none elsewhere. Raises typer.BadParameter."""
    if acceptance is not None and draft.kind == "none":
        raise typer.BadParameter("--acceptance needs drafts: choose --draft ngram, planes or model:PATH")
    if manifest.layout == "dense":
        return draft
    if draft.kind not in ("auto", "none") or acceptance is not None:
        raise typer.BadParameter(f"drafts are predicted for layout dense; this model is in layout {manifest.layout}")
    return DraftOptions()


def find_drafting(options: EngineOptions, acceptance: float | None) -> Drafting:
    """Raises StorageError."""
    if options.draft.model is None:
        return Drafting(options=options.draft, acceptance=acceptance)
    return Drafting(
        options=options.draft,
        acceptance=acceptance,
        model=load_manifest(options.draft.model),
        cell=load_cell_manifest(options.model, options.draft.model),
    )


def draft_assumptions(
    draft: DraftPrediction | None, acceptance: float | None, manifest: Manifest, rates: MachineRates
) -> Sequence[str]:
    if draft is None:
        return ()
    assumptions: list[str] = []
    if acceptance is None:
        seen = "as measured on SmolLM2-135M" if draft.kind == "planes" else "which is cautious"
        assumptions.append(
            f"{draft.acceptance:.0%} of the tokens that {_words(draft.kind)} drafts are right, {seen}; --acceptance "
            "says otherwise"
        )
    coarse = [kind + COARSE for kind in manifest.matrix_kinds]
    if draft.kind == "planes" and not any(kind in rates.kernels.bytes_per_s for kind in coarse):
        assumptions.append("kernels of plane 0 read as many bytes a second as those of both planes")
    return assumptions


def draft_text(plan: RunPlan) -> str:
    """What a pass with drafts takes and brings."""
    draft = plan.draft
    if draft is None and not plan.drafts.kinds:
        return "none"
    if draft is None:
        return "n-grams, which bring what the text repeats; --acceptance predicts"
    time = (
        f"{draft.length} by {_words(draft.kind)}, {draft.tokens_per_pass:.2f} tokens a pass of "
        f"{format_seconds(draft.pass_s)}: drafting {format_seconds(draft.length * draft.draft_s_per_token)}, checking "
        f"{format_seconds(draft.check_s)} beside reading {format_seconds(draft.io_s)} "
        f"({format_seconds(draft.ahead_s)} of it ahead)"
    )
    gain = f"{draft.decode_tokens_per_s:.2f} tok/s, {draft.gain_ratio:.2f} × none"
    return f"{gain}; {time}" if draft.gain_ratio > 1 else f"no gain, so none where auto chooses ({gain}; {time})"


def _words(kind: str) -> str:
    return {"planes": "plane 0", "model": "the draft model", "ngram": "n-grams"}[kind]
