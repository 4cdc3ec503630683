"""From how a model would be opened to what the planner takes, and the search over ways to run it. Reads manifests,
calibrations and saved rates; starts nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np

from tidemill.actors.arena.residency.cache_demand import TableCache, warn_of_small_caches
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.compute.selection.operators import OPERATORS_OF, InputKind, PolicyName
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.compute.selection.topk import KINDS
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.calibration.calibration_file import CalibrationFile
from tidemill.runtime.calibration.policies import operator_shares
from tidemill.runtime.cell import measure_demands
from tidemill.runtime.cell_plan import plan_reader
from tidemill.runtime.options import LAYOUT_OF, EngineOptions
from tidemill.runtime.planning.active_run import ActiveRun, ActiveSetting, ledger_of, plan_active_run
from tidemill.runtime.planning.active_search import Found, NoActivePlanError, QualityCurve, least_sparsity, search
from tidemill.runtime.planning.bundle_replay import KIND_OF
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.selections import Selections, StatedSelections, TracedSelections
from tidemill.storage.bundle_plan import BundlePlan, whole_bundle_bytes
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.read_choices import ReadChoices

PRELOAD_OF: Mapping[PolicyName, PreloadKind] = MappingProxyType(
    {"topk": "scaled", "gate": "look-ahead", "neuron": "look-ahead"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What predictions rest on: rates, what the processes weigh, how the run is shaped, and a trace if there is one."""

    rates: MachineRates
    processes: Mapping[str, int]
    shape: RunShape
    trace: TracedSelections | None = None


def active_setting(options: EngineOptions, grounds: Grounds) -> ActiveSetting:
    """Of a run with these options over a model whose bundles come one by one. Raises CalibrationError; ValueError for a
    trace of another selection."""
    manifest = load_manifest(options.model)
    demands = measure_demands(manifest, options, dict(grounds.processes))
    setting = ActiveSetting(
        manifest=manifest,
        demands=demands,
        rates=grounds.rates,
        shape=grounds.shape,
        selections=None if options.selection is None else _selections(options.model, options.selection, grounds.trace),
        residency=ResidencyChoice(options.residency, quotas=options.quotas),
        preload_share=0.0 if options.preload == "none" else options.preload_share,
        choices=ReadChoices(np.ones(1), np.ones(1), max_bytes=1 << 20),
    )
    return replace(setting, choices=_read_choices(options, setting))


def plan_way(options: EngineOptions, grounds: Grounds) -> ActiveRun:
    """Raises what `active_setting` and `plan_active_run` do."""
    return plan_active_run(active_setting(options, grounds), options.ram_bytes)


def search_ways(
    variants: Sequence[EngineOptions], grounds: Grounds, worst_ratio: float | None
) -> tuple[tuple[Found, ...], str]:
    """Every way to run one of `variants` (conversions of one source; `selection` says everything but the sparsity) at
    the sparsity that the floor on quality or the ceiling asks for, the fastest first; and why that sparsity.

    Raises CalibrationError, NoActivePlanError, CeilingTooSmallError; ValueError for a model that cannot run it.
    """
    first = variants[0]
    selection = first.selection
    if selection is None:
        raise ValueError("a sparsity is searched for a selection, and none was given")
    for options in variants:
        _check_layout(options, selection)
    card = CalibrationFile.open(first.model).record.card
    if card is None:
        raise NoActivePlanError(
            f"{first.model} has no quality card, by which a sparsity could be chosen; calibrate it with --card-tokens "
            "above 0, or give a --sparsity"
        )
    curve = QualityCurve.of(card, selection)
    if worst_ratio is not None:
        sparsity = curve.most_sparsity(worst_ratio)
        why = f"the most that keeps perplexity at {worst_ratio:g} times the exact one, on {card.text}"
    else:
        sparsity = least_sparsity(*_active_and_room(first, grounds), curve)
        why = "the least whose active weights fit the ceiling beside everything else"

    def predict(place: int, at: float, preload: PreloadKind, share: float) -> ActiveRun:
        options = replace(
            variants[place],
            selection=msgspec.structs.replace(selection, sparsity=at),
            preload=preload,
            preload_share=share or variants[place].preload_share,
        )
        return plan_way(options, grounds)

    preloads = [PRELOAD_OF[selection.policy]] * len(variants)
    return search(sparsity, curve.ratio(sparsity), preloads, predict), why


def options_of(way: Found, variants: Sequence[EngineOptions]) -> EngineOptions:
    """Those that a found way is run with."""
    options = variants[way.place]
    if options.selection is None:
        raise ValueError("ways are found for selections, and none was given")
    return replace(
        options,
        selection=msgspec.structs.replace(options.selection, sparsity=way.sparsity),
        preload=way.preload,
        preload_share=way.preload_share or options.preload_share,
    )


def small_cache_warning(manifest: Manifest, plan: BundlePlan, shares: Mapping[InputKind, float]) -> str | None:
    """Of tables that may keep less than one token uses; None where all hold that."""
    caches = []
    for cached in plan.tables:
        table = manifest.tables[cached.table]
        share = shares.get(KIND_OF[table.role], 1.0)
        name = f"{table.role} of layer {table.layer}"
        caches.append(TableCache(name, cached.channels, min(1.0, share), min(cached.quotas)))
    return warn_of_small_caches(caches)


def _active_and_room(options: EngineOptions, grounds: Grounds) -> tuple[int, int]:
    """(bytes that are selected from, those of them that the ceiling has room for)"""
    setting = active_setting(replace(options, selection=None), grounds)
    ledger = ledger_of(setting)(options.ram_bytes)
    return whole_bundle_bytes(setting.manifest), ledger.arena.bundles.arena_bytes


def _check_layout(options: EngineOptions, selection: SelectionSpec) -> None:
    layout = load_manifest(options.model).layout
    if layout != LAYOUT_OF[selection.policy]:
        raise ValueError(
            f"{options.model} is in layout {layout}; --select {selection.policy} needs {LAYOUT_OF[selection.policy]}"
        )


def _selections(model: Path, spec: SelectionSpec, trace: TracedSelections | None) -> Selections:
    if trace is not None:
        if trace.policy != spec.policy or abs(trace.sparsity - spec.sparsity) > 1e-6:
            raise ValueError(
                f"the trace is of {trace.policy} at {trace.sparsity:.0%}, the plan of {spec.name}: give --select "
                f"{trace.policy} --sparsity {trace.sparsity:g}, or record another trace"
            )
        return trace
    return StatedSelections(active_shares(model, spec))


def active_shares(model: Path, spec: SelectionSpec) -> Mapping[InputKind, float]:
    """Of each input's channels, what a token selects on the calibration's text: the union of its operators, whose masks
    are nested. Raises CalibrationError."""
    record = CalibrationFile.open(model).record
    if spec.policy != "topk":
        return {spec.policy: 1 - spec.sparsity}
    left_out = operator_shares(record.allocation, spec)
    return {
        kind: 1 - min(left_out[name] if name in spec.operators else 0.0 for name in OPERATORS_OF[kind])
        for kind in KINDS
    }


def _read_choices(options: EngineOptions, setting: ActiveSetting) -> ReadChoices:
    """As the reader of such a run has them."""
    config = plan_reader(options, ledger_of(setting)(None), tickets=1)
    sizes, seconds = (np.array(values, np.float64) for values in (config.request_bytes, config.request_s))
    return ReadChoices(sizes, seconds, max_bytes=config.read_bytes_max)
