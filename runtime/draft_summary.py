"""What drafts brought to one generation: pure arithmetic over its passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tidemill.runtime.events import DraftedPass, TokenGenerated


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCounts:
    passes: int
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSummary:
    """A *pass* is a decoding step: drafts, then one exact lap that checks them. Times in seconds, means over passes."""

    kind: str  # as asked for
    passes: int
    drafted: int
    accepted: int
    acceptance: float | None  # of drafted tokens
    tokens_per_pass: float
    by_kind: dict[str, DraftCounts]  # none: passes of one plain step
    draft_s_per_pass: float
    check_s_per_pass: float
    stall_s_per_pass: float
    compute_s_per_pass: float
    bytes_per_pass: float
    gain_over_none: float | None  # tokens per second over those of plain passes of this run; None without both


def summarise_drafts(kind: str, tokens: Sequence[TokenGenerated]) -> DraftSummary | None:
    """None where no pass could draft."""
    passes = [token.drafted_pass for token in tokens if token.drafted_pass is not None]
    if not passes:
        return None
    counts = _count(passes)
    return DraftSummary(
        kind=kind,
        passes=counts.passes,
        drafted=counts.drafted,
        accepted=counts.accepted,
        acceptance=counts.accepted / counts.drafted if counts.drafted else None,
        tokens_per_pass=1 + counts.accepted / counts.passes,
        by_kind={name: _count([p for p in passes if p.kind == name]) for name in sorted({p.kind for p in passes})},
        draft_s_per_pass=_mean_s([p.draft_ns for p in passes]),
        check_s_per_pass=_mean_s([p.check_ns for p in passes]),
        stall_s_per_pass=_mean_s([p.stall_ns for p in passes]),
        compute_s_per_pass=_mean_s([p.compute_ns for p in passes]),
        bytes_per_pass=sum(p.flash_bytes for p in passes) / len(passes),
        gain_over_none=_gain(passes),
    )


def _count(passes: Sequence[DraftedPass]) -> DraftCounts:
    return DraftCounts(
        passes=len(passes), drafted=sum(p.drafted for p in passes), accepted=sum(p.accepted for p in passes)
    )


def _mean_s(values: Sequence[int]) -> float:
    return sum(values) / len(values) / 1e9


def _gain(passes: Sequence[DraftedPass]) -> float | None:
    plain = [p.draft_ns + p.check_ns for p in passes if not p.drafted]
    if not plain or len(plain) == len(passes):
        return None
    tokens = len(passes) + sum(p.accepted for p in passes)
    return median(plain) * tokens / sum(p.draft_ns + p.check_ns for p in passes)
