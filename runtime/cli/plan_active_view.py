"""Draws the plan of a model whose bundles come one by one, for people."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tidemill.runtime.cli.plan_view import BAR_WIDTH, ceiling_text
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.planning.active_run import ActivePoint, ActiveRun
from tidemill.runtime.planning.active_search import Found
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import locked_bytes
from tidemill.runtime.sizes import format_seconds, format_size

WAYS_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveReport:
    """What is shown. `ways` are the runners-up of a search too; `exact_s`: a token of the same model, exactly."""

    options: EngineOptions
    run: ActiveRun
    curve: tuple[ActivePoint, ...]
    ways: tuple[Found, ...]
    models: tuple[str, ...]  # of `Found.place`
    why: str
    exact_s: float | None
    assumptions: tuple[str, ...]


def show_active_plan(report: ActiveReport, rates: MachineRates) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for assumption in report.assumptions:
        console.print(f"assumed: {assumption}", markup=False)
    run = report.run
    ledger = _table("ledger", "")
    for name, size in run.ledger.lines:
        ledger.add_row(name, format_size(size))
    ledger.add_row("in all", f"{format_size(run.ledger.total_bytes)}, {ceiling_text(run.ledger.ceiling_bytes)}")
    console.print(ledger)
    console.print()
    console.print(_tables(report))
    console.print()
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in _rows(report, rates):
        facts.add_row(name, value)
    console.print(facts)
    if run.small_cache is not None:
        console.print(f"warning: {run.small_cache}", markup=False)
    if report.ways:
        console.print()
        console.print(_ways(report))
    console.print()
    console.print(_curve(report.curve))


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _tables(report: ActiveReport) -> Table:
    table = _table("table", "of a layer", "a token uses", "may stay", "hits", "on demand", "reads", "read ahead")
    for use in report.run.uses:
        streamed = use.missing_visits
        table.add_row(
            use.role,
            f"{use.channels} × {format_size(int(use.active_bytes / use.active))}" if use.active else f"{use.channels}",
            f"{use.active_share:.0%}",
            f"{use.quota / use.channels:.0%} in {streamed} layers" if streamed else "all",
            f"{use.hit_rate:.1%}",
            format_size(int(use.demand.useful_bytes)),
            f"{use.demand.requests:.0f}",
            format_size(int(use.planned.useful_bytes)),
        )
    return table


def _rows(report: ActiveReport, rates: MachineRates) -> list[tuple[str, str]]:
    run, p = report.run, report.run.prediction
    arena = run.ledger.arena
    rows = [
        ("computed with", _way(report)),
        ("arena", f"{format_size(arena.arena_bytes)}: locked {format_size(locked_bytes(arena))}, ring "
                  f"{format_size(arena.ring_bytes)}, pools {format_size(arena.bundles.arena_bytes)}, in which "
                  f"{arena.bundles.cached_share:.0%} of all bundles may stay"),
        ("per token", f"{format_size(int(p.active_bytes_per_token))} of bundles computed with: {p.hit_rate:.1%} "
                      f"cached, {p.preload_hit_rate:.1%} read ahead, "
                      f"{max(0.0, 1 - p.hit_rate - p.preload_hit_rate):.1%} on demand"),
        ("flash", f"{format_size(int(p.flash_bytes_per_token))}/token: {format_size(int(p.demanded_bytes))} wanted on "
                  f"demand, {format_size(int(p.preloaded_bytes))} read ahead, in {p.reads_per_token:.0f} reads of "
                  f"{p.read_amplification:.2f} times that; {format_size(p.ring_bytes)} through the ring"),
        ("decode", f"{p.decode_tokens_per_s:.2f} tok/s, {format_seconds(p.decode_s_per_token)}/token"),
        ("", f"stall {format_seconds(p.stall_s_per_token)} (demands {format_seconds(p.demand_s)}, messages "
             f"{format_seconds(p.visits_s)}, reads under way {format_seconds(p.wait_s)}), compute "
             f"{format_seconds(p.compute_s_per_token)}, management {format_seconds(p.management_s_per_token)}; the "
             f"drive is busy for {format_seconds(p.io_s_per_token)}"),
        ("first token", f"{format_seconds(run.first_token_s)}: prompt and loading {format_size(run.load_bytes)} "
                        f"{format_seconds(run.prompt_s)}"),
        ("bottleneck", f"{p.bottleneck}; everything is resident from --ram {report.curve[-1].ceiling_bytes >> 20}MiB "
                       "on"),
        ("rates", "assumed" if rates.measured_at == "never" else f"measured {rates.measured_at}"),
    ]  # fmt: skip
    if report.exact_s is not None:
        rows.insert(5, ("", f"exactly, over the same layout: {format_seconds(report.exact_s)}/token"))
    return rows


def _way(report: ActiveReport) -> str:
    options = report.options
    if options.selection is None:
        return "everything: exact"
    preload = "nothing preloaded"
    if options.preload != "none":
        preload = f"{options.preload} preloads of {options.preload_share:.0%}"
    why = f": {report.why}" if report.why else ""
    return f"LOSSY {options.selection.name} of {options.model.name}, {options.residency}, {preload}{why}"


def _ways(report: ActiveReport) -> Table:
    table = _table("model", "sparsity", "perplexity", "preload", "tok/s")
    for way in report.ways[:WAYS_SHOWN]:
        table.add_row(
            report.models[way.place],
            f"{way.sparsity:.0%}",
            f"× {way.ratio:.2f}",
            "none" if way.preload == "none" else f"{way.preload} {way.preload_share:.0%}",
            f"{1 / way.token_s:.2f}",
        )
    return table


def _curve(curve: tuple[ActivePoint, ...]) -> Table:
    table = _table("ceiling", "cached", "hits", "flash/token", "tok/s", "", "bottleneck")
    most = max(point.decode_tokens_per_s for point in curve)
    for point in curve:
        table.add_row(
            format_size(point.ceiling_bytes),
            f"{point.cached_share:.0%}",
            f"{point.hit_rate:.1%}",
            format_size(int(point.flash_bytes_per_token)),
            f"{point.decode_tokens_per_s:.2f}",
            "█" * max(1, round(point.decode_tokens_per_s / most * BAR_WIDTH)),
            point.bottleneck,
        )
    return table
