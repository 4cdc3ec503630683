"""A run over bundles that come one by one, before it runs: ledger, replay and prediction at a ceiling, and over others.
Pure: it is told the rates, what the processes weigh, how the model is opened and what it selects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tidemill.actors.arena.residency.cache_demand import TableCache, warn_of_small_caches
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.ledger import Demands, Ledger, plan_ledger
from tidemill.runtime.planning.active import ActivePrediction, DenseWork, gather_rates, predict_active
from tidemill.runtime.planning.bundle_replay import Reads, Replay, TableUse, replay_bundles, spare_slots
from tidemill.runtime.planning.constants import (
    COLD_START_S,
    LAYER_OVERHEAD_S,
    PRELOAD_SKILL,
    SKILL_LEFT,
    TOKEN_OVERHEAD_S,
)
from tidemill.runtime.planning.interpolation import request_seconds
from tidemill.runtime.planning.prediction import RunShape, io_seconds, kernel_seconds, prompt_seconds, scaled_rates
from tidemill.runtime.planning.preloading import Preloading
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import ceiling_range, spread_ceilings
from tidemill.runtime.planning.selections import Selections, StatedSelections
from tidemill.runtime.planning.workload import plan_workload
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.manifest import Manifest
from tidemill.storage.read_choices import ReadChoices

CURVE_POINTS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSetting:
    """`selections` None: everything is computed with. `preload_share` 0: nothing is preloaded; it goes with the same in
    `demands`."""

    manifest: Manifest
    demands: Demands
    rates: MachineRates
    shape: RunShape
    selections: Selections | None
    residency: ResidencyChoice
    preload_share: float
    choices: ReadChoices


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePoint:
    """What another ceiling would bring."""

    ceiling_bytes: int
    cached_share: float
    flash_bytes_per_token: float
    hit_rate: float
    decode_tokens_per_s: float
    bottleneck: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRun:
    """At one ceiling."""

    ledger: Ledger
    uses: tuple[TableUse, ...]
    prediction: ActivePrediction
    prompt_s: float
    load_bytes: int

    @property
    def first_token_s(self) -> float:
        return COLD_START_S + self.prompt_s

    @property
    def small_cache(self) -> str | None:
        """A warning of caches smaller than one token's demand."""
        return warn_of_small_caches(
            [
                TableCache(use.role, use.channels, min(1.0, use.active_share), use.quota)
                for use in self.uses
                if use.missing_visits
            ]
        )


def plan_active_run(setting: ActiveSetting, ceiling_bytes: int | None) -> ActiveRun:
    """Raises CeilingTooSmallError as opening would, ValueError for a trace of another model."""
    ledger = plan_ledger(setting.manifest, setting.demands, ceiling_bytes=ceiling_bytes, arena_bytes=None)
    rates, shape = scaled_rates(setting.rates, setting.shape.threads), setting.shape
    uses = replay_bundles(_replay(setting, ledger.arena.bundles))
    if setting.selections is None:
        uses = tuple(_read_ahead(use, ledger.arena.bundles) for use in uses)
    beside = plan_workload(setting.manifest, ledger.arena, with_bundles=False)
    whole = plan_workload(setting.manifest, ledger.arena)
    ring = [*beside.layers.read_sizes, *beside.head.read_sizes]
    dense = DenseWork(
        compute_s=kernel_seconds(beside, rates, shape),
        management_s=beside.layer_count * LAYER_OVERHEAD_S + TOKEN_OVERHEAD_S,
        ring_s=io_seconds(beside, rates, shape),
        ring_read_s=request_seconds(rates.flash, ring, shape.io_depth) / len(ring) * shape.io_depth if ring else 0.0,
        ring_bytes=sum(ring),
    )
    return ActiveRun(
        ledger=ledger,
        uses=uses,
        prediction=predict_active(uses, dense, rates, shape.io_depth),
        prompt_s=prompt_seconds(whole, rates, shape),
        load_bytes=sum(whole.load_sizes),
    )


def active_curve(setting: ActiveSetting) -> tuple[ActivePoint, ...]:
    """From the smallest possible ceiling to the one that holds the whole model."""
    smallest, resident = ceiling_range(ledger_of(setting))
    points = []
    for ceiling in spread_ceilings(smallest, resident, CURVE_POINTS):
        run = plan_active_run(setting, ceiling)
        points.append(
            ActivePoint(
                ceiling_bytes=ceiling,
                cached_share=run.ledger.arena.bundles.cached_share,
                flash_bytes_per_token=run.prediction.flash_bytes_per_token,
                hit_rate=run.prediction.hit_rate,
                decode_tokens_per_s=run.prediction.decode_tokens_per_s,
                bottleneck=run.prediction.bottleneck,
            )
        )
    return tuple(points)


def ledger_of(setting: ActiveSetting) -> Callable[[int | None], Ledger]:
    """The ledger by ceiling. Raises CeilingTooSmallError."""
    return lambda ceiling: plan_ledger(setting.manifest, setting.demands, ceiling_bytes=ceiling, arena_bytes=None)


def _replay(setting: ActiveSetting, plan: BundlePlan) -> Replay:
    preloading = None
    if setting.preload_share:
        layers = setting.manifest.group
        preloading = Preloading(share=setting.preload_share, skill=_skill(layers))
    return Replay(
        manifest=setting.manifest,
        plan=plan,
        selections=StatedSelections({}) if setting.selections is None else setting.selections,
        residency=setting.residency,
        choices=setting.choices,
        gathers=gather_rates(setting.rates, setting.shape.io_depth),
        preloading=preloading,
        learns=setting.selections is not None,
    )


def _skill(layers: int) -> Mapping[InputKind, float]:
    """Of predictions for a group of so many layers: what is known of the next smaller one."""
    left = SKILL_LEFT[max(known for known in SKILL_LEFT if known <= layers)]
    return {kind: skill * (left if kind in ("qkv", "gate_up") else 1.0) for kind, skill in PRELOAD_SKILL.items()}


def _read_ahead(use: TableUse, plan: BundlePlan) -> TableUse:
    """A dense step reads its next table ahead, as far as there are slots to spare: nothing of that is in vain."""
    if not use.missing_visits:
        return use
    missing = use.demand.bundles / use.missing_visits
    share = min(1.0, spare_slots(plan, use.pool) / missing) if missing else 0.0
    return replace(use, planned=Reads().plus(use.demand, share), left=Reads().plus(use.demand, 1 - share))
