"""`tidemill plan`."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer

from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cell import CHUNK, measure_demands
from tidemill.runtime.cli.plan_view import show_plan
from tidemill.runtime.llm import AUTO_SHARE, DEFAULT_CONTEXT
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.options import EngineOptions, check_options, choose_load_mode, default_threads
from tidemill.runtime.planning.constants import DEFAULT_PROCESSES, default_rates, flat_flash
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import RunPlan, locked_bytes, plan_run
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.runtime.tuning.saved_rates import find_rates
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


class Basis(NamedTuple):
    """The rates a plan rests on, and what of them is not this machine's measurement."""

    rates: MachineRates
    processes: dict[str, int]
    assumptions: tuple[str, ...]


def plan_command(flags: PlanFlags) -> None:
    directory = resolve_model(flags.model)
    manifest = load_manifest(directory)
    if manifest.layout != "dense":
        raise ValueError(
            f"{directory} is in layout {manifest.layout}, whose runs plan does not predict yet: they depend on what a "
            "text selects. Plan the dense conversion, and measure this one with tidemill run"
        )
    options = _options(flags, directory)
    if flags.prompt_tokens >= options.context:
        raise typer.BadParameter(
            f"--prompt-tokens {flags.prompt_tokens} leaves no room in a context of {options.context}; give a larger -c"
        )
    basis = find_basis(directory, flags.flash_rate, options.threads)
    plan = _plan(manifest, options, basis, flags.prompt_tokens)
    if flags.as_json:
        sys.stdout.write(json.dumps(_to_json(directory, options, basis, plan)) + "\n")
    else:
        show_plan(directory.name, plan, basis.rates, basis.assumptions)


def find_basis(directory: Path, flash_rate: str | None, threads: int) -> Basis:
    """Rates saved for this machine and the model's file system, or the stated defaults. Raises ValueError."""
    saved = find_rates(directory)
    assumptions: list[str] = []
    rates = saved.rates
    if rates is None:
        rates = default_rates(threads)
        reason = saved.problem or "this machine and file system are not measured"
        assumptions.append(
            f"{reason}: flash, DRAM and kernel rates are assumed (1 GB/s, 20 GB/s, 15 GB/s). For real ones: "
            f"tidemill tune -m {directory}"
        )
    elif threads > rates.threads:
        assumptions.append(f"kernels were measured with {rates.threads} threads: no gain is assumed from {threads}")
    processes = find_processes()
    if not processes:
        assumptions.append("the processes' sizes are those seen elsewhere: any run from here on is weighed")
    if flash_rate is not None:
        flash = flat_flash(parse_rate(flash_rate), f"--flash-rate {flash_rate}")
        rates = msgspec.structs.replace(rates, flash=flash)
        assumptions.append(f"the drive is taken to read {flash_rate} at every request size")
    return Basis(rates, processes or dict(DEFAULT_PROCESSES), tuple(assumptions))


def parse_rate(text: str) -> int:
    """Bytes per second from a size with or without "/s". Raises ValueError."""
    try:
        return parse_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is no rate; write for example 0.8GB/s, 500MB/s or a number of bytes") from None


def _options(flags: PlanFlags, directory: Path) -> EngineOptions:
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
    )
    return check_options(options, explicit_context=flags.context is not None)


def _plan(manifest: Manifest, options: EngineOptions, basis: Basis, prompt_tokens: int) -> RunPlan:
    shape = RunShape(
        prompt_tokens=prompt_tokens,
        chunk=CHUNK,
        position=prompt_tokens,
        io_depth=options.io_depth,
        threads=options.threads,
    )
    demands = measure_demands(manifest, options, basis.processes)
    return plan_run(manifest, demands, basis.rates, shape, ceiling_bytes=options.ram_bytes)


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
        "smallest_ceiling_bytes": plan.smallest_ceiling_bytes,
        "resident_ceiling_bytes": plan.resident_ceiling_bytes,
        "curve": [asdict(point) for point in plan.curve],
        "drives": [asdict(point) for point in plan.drives],
        "rates": json.loads(msgspec.json.encode(basis.rates)),
        "measured": basis.rates.measured_at != "never",
        "assumptions": list(basis.assumptions),
    }
