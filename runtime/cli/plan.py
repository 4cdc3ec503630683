"""`tidemill plan`."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import typer

from tidemill.actors.arena.residency.choose_policy import QuotaKind, ResidencyKind
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cell import measure_demands
from tidemill.runtime.cell_plan import CHUNK
from tidemill.runtime.cli.plan_active import ActiveFlags, plan_active_command
from tidemill.runtime.cli.plan_basis import Basis, find_basis
from tidemill.runtime.cli.plan_drafts import draft_assumptions, find_drafting, planned_draft
from tidemill.runtime.cli.plan_view import show_plan
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.llm import AUTO_SHARE, DEFAULT_CONTEXT
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.options import (
    EngineOptions,
    check_options,
    choose_load_mode,
    choose_quotas,
    default_threads,
)
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.run_plan import RunPlan, locked_bytes, plan_run
from tidemill.runtime.sizes import parse_size
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    model: str
    ram: str
    context: int | None
    threads: int | None
    io_depth: int
    prompt_tokens: int
    flash_rate: str | None
    as_json: bool
    selection: SelectionSpec | None = None
    is_sparsity_searched: bool = False
    worst_ratio: float | None = None
    residency: str = "lfu"
    quotas: str | None = None
    preload: str = "none"
    preload_share: float = 0.5
    trace: Path | None = None
    among: tuple[str, ...] = ()
    draft: DraftOptions = field(default_factory=DraftOptions)
    acceptance: float | None = None


def plan_command(flags: PlanFlags) -> None:
    directory = resolve_model(flags.model)
    manifest = load_manifest(directory)
    options = _options(flags, directory, planned_draft(flags.draft, flags.acceptance, manifest))
    if flags.prompt_tokens >= options.context:
        raise typer.BadParameter(
            f"--prompt-tokens {flags.prompt_tokens} leaves no room in a context of {options.context}; give a larger -c"
        )
    basis = find_basis(directory, flags.flash_rate, options.threads)
    if manifest.layout != "dense":
        others = tuple(_options(flags, resolve_model(name), DraftOptions()) for name in flags.among)
        active = ActiveFlags(
            search=flags.is_sparsity_searched,
            worst_ratio=flags.worst_ratio,
            trace=flags.trace,
            others=others,
            as_json=flags.as_json,
        )
        plan_active_command(options, basis, _shape(options, flags.prompt_tokens), active)
        return
    plan = _plan(manifest, options, basis, flags)
    more = draft_assumptions(plan.draft, flags.acceptance, manifest, basis.rates)
    basis = basis._replace(assumptions=(*basis.assumptions, *more))
    if flags.as_json:
        sys.stdout.write(json.dumps(_to_json(directory, options, basis, plan)) + "\n")
    else:
        show_plan(directory.name, plan, basis.rates, basis.assumptions)


def _options(flags: PlanFlags, directory: Path, draft: DraftOptions) -> EngineOptions:
    ram = {"auto": int(available_bytes() * AUTO_SHARE), "none": None}
    options = EngineOptions(
        model=directory,
        ram_bytes=ram[flags.ram] if flags.ram in ram else parse_size(flags.ram),
        arena_bytes=None,
        context=DEFAULT_CONTEXT if flags.context is None else flags.context,
        threads=default_threads() if flags.threads is None else flags.threads,
        load_mode=choose_load_mode("auto"),
        launcher="local",
        io_depth=flags.io_depth,
        selection=flags.selection,
        residency=cast(ResidencyKind, flags.residency),
        quotas=choose_quotas(
            cast(QuotaKind | None, flags.quotas), cast(ResidencyKind, flags.residency), flags.selection
        ),
        preload=cast(PreloadKind, flags.preload),
        preload_share=flags.preload_share,
        draft=draft,
    )
    return check_options(options, explicit_context=flags.context is not None)


def _shape(options: EngineOptions, prompt_tokens: int) -> RunShape:
    return RunShape(
        prompt_tokens=prompt_tokens,
        chunk=CHUNK,
        position=prompt_tokens,
        io_depth=options.io_depth,
        threads=options.threads,
    )


def _plan(manifest: Manifest, options: EngineOptions, basis: Basis, flags: PlanFlags) -> RunPlan:
    drafting = find_drafting(options, flags.acceptance)
    demands = measure_demands(drafting.cell or manifest, options, basis.processes)
    shape = _shape(options, flags.prompt_tokens)
    return plan_run(manifest, demands, basis.rates, shape, ceiling_bytes=options.ram_bytes, drafting=drafting)


def _to_json(directory: Path, options: EngineOptions, basis: Basis, plan: RunPlan) -> dict[str, object]:
    arena = plan.ledger.arena
    return {
        "model": str(directory),
        "ceiling_bytes": options.ram_bytes,
        "context": options.context,
        "threads": options.threads,
        "ledger": [{"name": name, "bytes": size} for name, size in plan.ledger.lines],
        "arena_bytes": arena.arena_bytes,
        "locked_bytes": locked_bytes(arena),
        "ring_bytes": arena.ring_bytes,
        "prediction": asdict(plan.prediction),
        "drafts": {
            "kinds": list(plan.drafts.kinds),
            "length": plan.drafts.fixed_length,
            "prediction": None if plan.draft is None else asdict(plan.draft),
        },
        "smallest_ceiling_bytes": plan.smallest_ceiling_bytes,
        "resident_ceiling_bytes": plan.resident_ceiling_bytes,
        "curve": [asdict(point) for point in plan.curve],
        "drives": [asdict(point) for point in plan.drives],
        "rates": json.loads(msgspec.json.encode(basis.rates)),
        "measured": basis.rates.measured_at != "never",
        "assumptions": list(basis.assumptions),
    }
