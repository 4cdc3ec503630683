"""A run before it runs: ledger and prediction at the ceiling asked for, over other ceilings, and with faster drives,
plainly and with drafts. Pure: it is told the rates, what the processes weigh, and how the model is opened."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from tidemill.actors.compute.drafting.spec import DraftSpec
from tidemill.runtime.ledger import MIB, CeilingTooSmallError, Demands, Ledger, plan_ledger
from tidemill.runtime.planning.constants import GATHER_READ_S
from tidemill.runtime.planning.draft_prediction import DraftPrediction
from tidemill.runtime.planning.drafting import PLAIN, DraftedRun, Drafting, plan_drafted
from tidemill.runtime.planning.prediction import Prediction, RunShape, predict
from tidemill.runtime.planning.rates import FlashPoint, MachineRates
from tidemill.runtime.planning.workload import plan_workload
from tidemill.storage.arena_plan import ArenaPlan
from tidemill.storage.manifest import Manifest

CURVE_POINTS = 9
DRIVE_RATIOS = (0.5, 1.5, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What another ceiling would bring, without drafts but for `drafted_tokens_per_s`: None where no drafts are
    predicted."""

    ceiling_bytes: int
    streamed_bytes_per_token: int
    decode_tokens_per_s: float
    drafted_tokens_per_s: float | None
    first_token_s: float
    bottleneck: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivePoint:
    """What a drive of `ratio` times the rate would bring at the same ceiling."""

    ratio: float
    decode_tokens_per_s: float
    drafted_tokens_per_s: float | None
    first_token_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    ledger: Ledger
    prediction: Prediction  # of tokens that nothing is drafted for
    drafts: DraftSpec  # what the run drafts with
    draft: DraftPrediction | None  # of its passes; None where nothing drafts, or none knows how well: n-grams
    curve: tuple[CurvePoint, ...]  # from the smallest possible ceiling to the one that holds the whole model
    drives: tuple[DrivePoint, ...]  # empty when nothing is streamed

    @property
    def smallest_ceiling_bytes(self) -> int:
        return self.curve[0].ceiling_bytes

    @property
    def resident_ceiling_bytes(self) -> int:
        return self.curve[-1].ceiling_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    manifest: Manifest
    demands: Demands
    shape: RunShape
    drafting: Drafting

    def plain_ledger(self, ceiling_bytes: int | None) -> Ledger:
        demands = replace(self.demands, drafts={})
        return plan_ledger(self.manifest, demands, ceiling_bytes=ceiling_bytes, arena_bytes=None)

    def plain(self, ceiling_bytes: int | None, rates: MachineRates) -> Prediction:
        return predict(plan_workload(self.manifest, self.plain_ledger(ceiling_bytes).arena), rates, self.shape)

    def drafted(self, ceiling_bytes: int | None, rates: MachineRates) -> DraftedRun:
        return plan_drafted(self.manifest, self.demands, rates, self.shape, ceiling_bytes, self.drafting)

    def find_drafted_rate(self, ceiling_bytes: int | None, rates: MachineRates) -> float | None:
        """Tokens per second; None where drafts don't fit or nothing is predicted of them. "auto" drafts nothing where
        that is faster."""
        try:
            run = self.drafted(ceiling_bytes, rates)
        except CeilingTooSmallError:
            return None
        if run.draft is None:
            return None
        drafted = run.draft.decode_tokens_per_s
        return max(drafted, run.prediction.decode_tokens_per_s) if self.drafting.options.kind == "auto" else drafted


def plan_run(
    manifest: Manifest,
    demands: Demands,
    rates: MachineRates,
    shape: RunShape,
    *,
    ceiling_bytes: int | None,
    drafting: Drafting = PLAIN,
) -> RunPlan:
    """`ceiling_bytes` None: the whole model is resident. `demands`: with what drafts take, as opening would have them.
    Raises CeilingTooSmallError as opening would."""
    case = _Case(manifest=manifest, demands=demands, shape=shape, drafting=drafting)
    run = case.drafted(ceiling_bytes, rates)
    return RunPlan(
        ledger=run.ledger,
        prediction=run.prediction,
        drafts=run.drafts,
        draft=run.draft,
        curve=_curve(case, rates),
        drives=_drives(case, rates, ceiling_bytes) if run.prediction.reads_per_token else (),
    )


def _curve(case: _Case, rates: MachineRates) -> tuple[CurvePoint, ...]:
    points: list[CurvePoint] = []
    for ceiling in spread_ceilings(*ceiling_range(case.plain_ledger), CURVE_POINTS):
        plain = case.plain(ceiling, rates)
        points.append(
            CurvePoint(
                ceiling_bytes=ceiling,
                streamed_bytes_per_token=plain.streamed_bytes_per_token,
                decode_tokens_per_s=plain.decode_tokens_per_s,
                drafted_tokens_per_s=case.find_drafted_rate(ceiling, rates),
                first_token_s=plain.first_token_s,
                bottleneck=plain.bottleneck,
            )
        )
    return tuple(points)


def _drives(case: _Case, rates: MachineRates, ceiling_bytes: int | None) -> tuple[DrivePoint, ...]:
    points: list[DrivePoint] = []
    for ratio in DRIVE_RATIOS:
        scaled = scale_flash(rates, ratio)
        plain = case.plain(ceiling_bytes, scaled)
        points.append(
            DrivePoint(
                ratio=ratio,
                decode_tokens_per_s=plain.decode_tokens_per_s,
                drafted_tokens_per_s=case.find_drafted_rate(ceiling_bytes, scaled),
                first_token_s=plain.first_token_s,
            )
        )
    return tuple(points)


def locked_bytes(arena: ArenaPlan) -> int:
    """Of slots that keep what they hold."""
    return arena.rings[0].offset if arena.rings else arena.row_offset


def ceiling_range(plan: Callable[[int | None], Ledger]) -> tuple[int, int]:
    """(smallest ceiling that a plan exists for, smallest that holds the whole model), in whole MiB.

    By bisection, so that the ledger stays the only place that knows what a ceiling has to hold.
    """
    whole = plan(None)
    resident = _bisect(-(-whole.total_bytes // MIB) + 1, lambda mib: _is_resident(plan, mib) is True)
    smallest = _bisect(resident, lambda mib: _is_resident(plan, mib) is not None)
    return smallest * MIB, resident * MIB


def spread_ceilings(smallest: int, resident: int, count: int) -> tuple[int, ...]:
    """At most `count` ceilings from one to the other, evenly, in whole MiB."""
    span = resident - smallest
    return tuple(sorted({(smallest + span * i // (count - 1)) // MIB * MIB for i in range(count)}))


def scale_flash(rates: MachineRates, ratio: float) -> MachineRates:
    """The same machine with a drive of `ratio` times the rate at every request size and depth."""
    points = tuple(FlashPoint(p.request_bytes, p.depth, p.bytes_per_s * ratio) for p in rates.flash.points)
    gathers = rates.gathers
    if gathers is not None:
        gathers = msgspec.structs.replace(
            gathers, read_s=max(GATHER_READ_S, gathers.read_s / ratio), byte_s=gathers.byte_s / ratio
        )
    return msgspec.structs.replace(rates, flash=msgspec.structs.replace(rates.flash, points=points), gathers=gathers)


def cap_flash(rates: MachineRates, bytes_per_s: float) -> MachineRates:
    """The same machine with a drive that is throttled to `bytes_per_s`."""
    points = tuple(FlashPoint(p.request_bytes, p.depth, min(p.bytes_per_s, bytes_per_s)) for p in rates.flash.points)
    gathers = rates.gathers
    if gathers is not None:
        gathers = msgspec.structs.replace(gathers, bytes_per_s_max=bytes_per_s)
    return msgspec.structs.replace(rates, flash=msgspec.structs.replace(rates.flash, points=points), gathers=gathers)


def _is_resident(plan: Callable[[int | None], Ledger], mib: int) -> bool | None:
    """Whether nothing is streamed, and no single bundle read, at a ceiling; None where there is no plan."""
    try:
        arena = plan(mib * MIB).arena
    except CeilingTooSmallError:
        return None
    return arena.ring_slots == 0 and arena.bundles.cached_share == 1.0


def _bisect(high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number up to `high` that holds, where everything above one that holds does too."""
    low = 0
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
