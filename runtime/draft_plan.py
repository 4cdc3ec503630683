"""Which drafts a ceiling allows, and the ledger that goes with them. Pure but for `draft_lines`, which reads the
manifest of a draft model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tidemill.actors.compute.activations import activation_bytes
from tidemill.actors.compute.drafting.draft_bytes import draft_bytes
from tidemill.actors.compute.drafting.spec import MOST_DRAFTED, DraftKind, DraftSpec
from tidemill.actors.compute.kv_cache import kv_cache_bytes
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.ledger import CeilingTooSmallError, Demands, Ledger, plan_ledger
from tidemill.runtime.options import EngineOptions
from tidemill.storage.arena_plan import LockFirst, has_planes
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

DRAFTS = "drafts"  # the line of the ledger
# What "auto" takes for drafts of a model that streams, of the bytes of a lap: what is not locked for it streams, and a
# run in which no draft pays shall be as fast as without.
LINES_SHARE = 0.005
Candidate = tuple[tuple[DraftKind, ...], LockFirst, int]  # kinds, what is locked first, the longest draft
LEAST_MOST = 3  # tokens of a draft, whatever their share


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
    lines = {DRAFTS: draft_bytes(manifest.decoder, options.context)}
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
    it, and gives drafts up where not even they fit; where weights stream, its checks are as long as keeps their logits
    small beside them. `resident_from`: the first extent of a draft model.

    Raises CeilingTooSmallError when what was asked for does not fit.
    """
    refused: CeilingTooSmallError | None = None
    for kinds, lock_first, most in _candidates(manifest, demands, draft):
        try:
            ledger = plan_ledger(
                manifest,
                replace(demands, drafts=_lines(manifest, demands, most)),
                ceiling_bytes=ceiling_bytes,
                arena_bytes=arena_bytes,
                lock_first=lock_first,
                resident_from=resident_from,
            )
        except CeilingTooSmallError as error:
            refused = error
            continue
        if draft.kind != "auto" or ledger.arena.ring_slots == 0 or most <= _most_beside(manifest, demands, draft):
            fixed_length = draft.length if kinds else None
            return DraftPlan(ledger, DraftSpec(kinds=kinds, most=most or MOST_DRAFTED, fixed_length=fixed_length))
    assert refused is not None
    raise refused


def _candidates(manifest: Manifest, demands: Demands, draft: DraftOptions) -> Sequence[Candidate]:
    """What is tried, best first."""
    match draft.kind:
        case "auto":
            lengths = sorted({MOST_DRAFTED, _most_beside(manifest, demands, draft)}, reverse=True)
            planes: list[Candidate] = [(("ngram", "planes"), "plane-0", most) for most in lengths]
            ngrams: list[Candidate] = [(("ngram",), "even", most) for most in lengths]
            return [*(planes if has_planes(manifest) else []), *ngrams, ((), "even", 0)]
        case "planes":
            return [(("planes",), "plane-0", MOST_DRAFTED)]
        case "ngram" | "model":
            return [((draft.kind,), "even", MOST_DRAFTED)]
        case "none":
            return [((), "even", 0)]


def _most_beside(manifest: Manifest, demands: Demands, draft: DraftOptions) -> int:
    """The longest draft whose check's logits take no more than a small share of what a lap computes with."""
    lap_bytes = manifest.bytes_of(manifest.layer_extents) + manifest.bytes_of(manifest.head_extents)
    row_bytes = _row_bytes(manifest)
    beside_bytes = sum(demands.drafts.values()) - (1 + MOST_DRAFTED) * row_bytes
    most = int((LINES_SHARE * lap_bytes - beside_bytes) / row_bytes) - 1
    return min(MOST_DRAFTED, max(LEAST_MOST, draft.length or 0, most))


def _lines(manifest: Manifest, demands: Demands, most: int) -> Mapping[str, int]:
    """Of `demands`, for drafts of at most so many tokens."""
    if not most:
        return {}
    spared_bytes = (MOST_DRAFTED - most) * _row_bytes(manifest)
    return {name: size - (spared_bytes if name == DRAFTS else 0) for name, size in demands.drafts.items()}


def _row_bytes(manifest: Manifest) -> int:
    """Of one position's logits."""
    return 4 * manifest.decoder.vocab_size
