"""Which drafts a ceiling allows, and the ledger that goes with them. Pure but for `draft_lines`, which reads the
manifest of a draft model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tidemill.actors.compute.activations import activation_bytes
from tidemill.actors.compute.drafting.draft_bytes import draft_bytes
from tidemill.actors.compute.drafting.spec import DraftKind, DraftSpec
from tidemill.actors.compute.kv_cache import kv_cache_bytes
from tidemill.runtime.draft_options import DraftChoice, DraftOptions
from tidemill.runtime.ledger import CeilingTooSmallError, Demands, Ledger, plan_ledger
from tidemill.runtime.options import EngineOptions
from tidemill.storage.arena_plan import LockFirst
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.plane_bytes import can_draft_planes


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """`spec`: what compute drafts with at this ceiling; of no kinds where nothing does."""

    ledger: Ledger
    spec: DraftSpec


def draft_lines(manifest: Manifest, options: EngineOptions, *, chunk: int) -> Mapping[str, int]:
    """What stands beside the arena for drafts: lines of the ledger. A draft model has a cache and buffers of its
    own. Raises StorageError."""
    if options.draft.kind == "none":
        return {}
    lines = {"drafts": draft_bytes(manifest.decoder, options.context)}
    if options.draft.model is not None:
        drafting = load_manifest(options.draft.model)
        buffers = activation_bytes(drafting, chunk, options.threads, options.context)
        lines["cache and buffers of the draft model"] = kv_cache_bytes(drafting.decoder, options.context) + buffers
    return lines


def plan_drafts(
    manifest: Manifest,
    demands: Demands,
    draft: DraftOptions,
    *,
    ceiling_bytes: int | None,
    arena_bytes: int | None,
    resident_from: int | None = None,
) -> DraftPlan:
    """The ledger of a run that drafts so. "auto" locks plane 0 first where the ceiling holds it, else drafts without
    it, and gives drafts up where not even they fit. `resident_from`: the first extent of a draft model.

    Raises CeilingTooSmallError when what was asked for does not fit.
    """
    candidates = _candidates(draft.kind, can_draft_planes(manifest))
    for kinds, lock_first in candidates:
        try:
            ledger = plan_ledger(
                manifest,
                demands if kinds else replace(demands, drafts={}),
                ceiling_bytes=ceiling_bytes,
                arena_bytes=arena_bytes,
                lock_first=lock_first,
                resident_from=resident_from,
            )
        except CeilingTooSmallError:
            if (kinds, lock_first) == candidates[-1]:
                raise
        else:
            return DraftPlan(ledger, DraftSpec(kinds=kinds, fixed_length=draft.length if kinds else None))
    raise AssertionError("the last candidate returns or raises")


def _candidates(choice: DraftChoice, planes: bool) -> Sequence[tuple[tuple[DraftKind, ...], LockFirst]]:
    """What is tried, best first."""
    match choice:
        case "auto":
            both: list[tuple[tuple[DraftKind, ...], LockFirst]] = [(("ngram", "planes"), "plane-0")] if planes else []
            return [*both, (("ngram",), "even"), ((), "even")]
        case "planes":
            return [(("planes",), "plane-0")]
        case "ngram" | "model":
            return [((choice,), "even")]
        case "none":
            return [((), "even")]
