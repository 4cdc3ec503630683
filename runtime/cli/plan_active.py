"""`tidemill plan` of models whose bundles come one by one, exactly or with a selection."""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from tidemill.runtime.active_planning import Grounds, active_setting, options_of, plan_way, search_ways
from tidemill.runtime.cli.plan_active_view import ActiveReport, show_active_plan
from tidemill.runtime.cli.plan_basis import Basis
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.planning.active_run import active_curve
from tidemill.runtime.planning.active_search import Found
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.selections import StatedSelections, TracedSelections


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveFlags:
    """`search`: the sparsity is chosen, by `worst_ratio` (of perplexity over the exact one) or else by the ceiling;
    `others`: conversions of the same source that may be chosen instead."""

    search: bool
    worst_ratio: float | None
    trace: Path | None
    others: tuple[EngineOptions, ...]
    as_json: bool


def plan_active_command(options: EngineOptions, basis: Basis, shape: RunShape, flags: ActiveFlags) -> None:
    trace = None if flags.trace is None else TracedSelections.load(flags.trace)
    grounds = Grounds(rates=basis.rates, processes=basis.processes, shape=shape, trace=trace)
    report = _report(options, basis, grounds, flags)
    if flags.as_json:
        sys.stdout.write(json.dumps(_to_json(report, basis)) + "\n")
    else:
        show_active_plan(report, basis.rates)


def _report(options: EngineOptions, basis: Basis, grounds: Grounds, flags: ActiveFlags) -> ActiveReport:
    ways: tuple[Found, ...] = ()
    why = ""
    variants = (options, *flags.others)
    if flags.search:
        ways, why = search_ways(variants, grounds, flags.worst_ratio)
        options = options_of(ways[0], variants)
    setting = active_setting(options, grounds)
    run = plan_way(options, grounds)
    exact_s = None
    assumptions = [*basis.assumptions]
    if options.selection is not None:
        exact = replace(options, selection=None, residency="lfu", quotas="fixed", preload="none")
        exact_s = plan_way(exact, grounds).prediction.decode_s_per_token
        if grounds.trace is None:
            assumptions.append(f"{StatedSelections.told}; a trace of your own text: --trace FILE")
    if basis.rates.gathers is None:
        assumptions.append(
            "what reads of single bundles take follows from larger reads and constants; to measure it: tidemill tune "
            f"-m {options.model}"
        )
    return ActiveReport(
        options=options,
        run=run,
        curve=active_curve(setting),
        ways=ways,
        models=tuple(variant.model.name for variant in variants),
        why=why,
        exact_s=exact_s,
        assumptions=tuple(assumptions),
    )


def _to_json(report: ActiveReport, basis: Basis) -> dict[str, object]:
    options, run = report.options, report.run
    arena = run.ledger.arena
    return {
        "model": str(options.model),
        "ceiling_bytes": options.ram_bytes,
        "context": options.context,
        "threads": options.threads,
        "selection": None if options.selection is None else options.selection.name,
        "sparsity": None if options.selection is None else options.selection.sparsity,
        "residency": options.residency,
        "quotas": options.quotas,
        "preload": options.preload,
        "preload_share": options.preload_share if options.preload != "none" else None,
        "why": report.why or None,
        "ways": [
            {
                "model": report.models[way.place], "sparsity": way.sparsity, "preload": way.preload,
                "preload_share": way.preload_share, "perplexity_ratio": way.ratio, "decode_s_per_token": way.token_s,
            }
            for way in report.ways
        ],
        "ledger": [{"name": name, "bytes": size} for name, size in run.ledger.lines],
        "arena_bytes": arena.arena_bytes,
        "cached_share": arena.bundles.cached_share,
        "tables": [_table(use) for use in map(asdict, run.uses)],
        "prediction": {**asdict(run.prediction), "decode_tokens_per_s": run.prediction.decode_tokens_per_s},
        "prompt_s": run.prompt_s,
        "first_token_s": run.first_token_s,
        "load_bytes": run.load_bytes,
        "exact_s_per_token": report.exact_s,
        "small_cache": run.small_cache,
        "smallest_ceiling_bytes": report.curve[0].ceiling_bytes,
        "resident_ceiling_bytes": report.curve[-1].ceiling_bytes,
        "curve": [asdict(point) for point in report.curve],
        "rates": json.loads(msgspec.json.encode(basis.rates)),
        "measured": basis.rates.measured_at != "never",
        "assumptions": list(report.assumptions),
    }  # fmt: skip


def _table(use: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in use.items() if key not in ("kind", "pool")}
