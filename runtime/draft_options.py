"""How tokens are drafted ahead: what was asked for, and whether the model can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tidemill.actors.compute.drafting.spec import MOST_DRAFTED
from tidemill.runtime.catalog import resolve_model
from tidemill.storage.arena_plan import has_planes
from tidemill.storage.draft_model import check_draft_model
from tidemill.storage.manifest import Manifest

DraftChoice = Literal["auto", "none", "ngram", "planes", "model"]  # auto: what model and ceiling allow
DRAFT_CHOICES: tuple[DraftChoice, ...] = get_args(DraftChoice)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOptions:
    """`model`: the directory of the draft model, with kind "model" and no other. `length`: of every draft; None:
    chosen for each."""

    kind: DraftChoice = "none"
    model: Path | None = None
    length: int | None = None


def parse_draft(text: str, length: int | None) -> DraftOptions:
    """From auto, none, ngram, planes or model:NAME, a converted model by path or name. Raises ValueError."""
    kind, _, model = text.partition(":")
    if kind == "model" and model:
        return DraftOptions(kind="model", model=resolve_model(model), length=length)
    if model or kind == "model" or kind not in DRAFT_CHOICES:
        raise ValueError(f"draft is {text!r}, accepted: {', '.join(DRAFT_CHOICES)}:PATH")
    return DraftOptions(kind=kind, length=length)


def check_draft(draft: DraftOptions, model: Path, manifest: Manifest, *, context: int, selects: bool) -> None:
    """`selects`: decoded tokens are computed with a part of the weights. Raises ValueError: nothing that was asked for
    may be without effect; DraftModelError, FormatError."""
    if draft.kind not in DRAFT_CHOICES:
        raise ValueError(f"draft is {draft.kind!r}, accepted: {', '.join(DRAFT_CHOICES)}")
    if (draft.kind == "model") != (draft.model is not None):
        raise ValueError(f"draft is {draft.kind} and its model {draft.model or 'none'}: write --draft model:PATH")
    if draft.length is not None and draft.kind == "none":
        raise ValueError("--draft-length needs drafts: choose --draft auto, ngram, planes or model:PATH")
    if draft.length is not None and not 1 <= draft.length <= MOST_DRAFTED:
        raise ValueError(f"draft length is {draft.length}, accepted: 1 to {MOST_DRAFTED}")
    if selects and draft.kind not in ("auto", "none"):
        raise ValueError(
            f"--draft {draft.kind} checks drafts with the exact model, and --select leaves weights out: give one of "
            "the two"
        )
    if draft.kind == "planes" and not has_planes(manifest):
        raise ValueError(
            f"--draft planes computes with plane 0 alone; {model} is in layout {manifest.layout} with matrices of one "
            f"plane. Convert it: tidemill convert SOURCE {model}-planes --codec bf16-planes, or choose --draft ngram"
        )
    if draft.model is not None:
        check_draft_model(model, draft.model, context=context)
