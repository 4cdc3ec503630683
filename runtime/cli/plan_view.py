"""Draws a RunPlan for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tidemill.runtime.cli.plan_drafts import draft_text
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import RunPlan, locked_bytes
from tidemill.runtime.sizes import format_seconds, format_size

BAR_WIDTH = 24


def show_plan(model: str, plan: RunPlan, rates: MachineRates, assumptions: Sequence[str]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for assumption in assumptions:
        console.print(f"assumed: {assumption}", markup=False)
    table = Table("ledger", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, size in plan.ledger.lines:
        table.add_row(name, format_size(size))
    ceiling = plan.ledger.ceiling_bytes
    table.add_row("in all", f"{format_size(plan.ledger.total_bytes)}, {ceiling_text(ceiling)}")
    console.print(table)
    console.print()
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in _rows(plan, rates):
        facts.add_row(name, value)
    console.print(facts)
    console.print()
    console.print(_curve(plan))
    if plan.drives:
        console.print()
        console.print(_drives(plan))


def ceiling_text(ceiling_bytes: int | None) -> str:
    return "no ceiling" if ceiling_bytes is None else f"ceiling {format_size(ceiling_bytes)}"


def _rows(plan: RunPlan, rates: MachineRates) -> list[tuple[str, str]]:
    p, arena = plan.prediction, plan.ledger.arena
    streamed = (
        f"{format_size(p.streamed_bytes_per_token)} streamed in {p.reads_per_token} reads"
        if p.reads_per_token
        else "nothing streamed: the model is resident"
    )
    source = "assumed" if rates.measured_at == "never" else f"measured {rates.measured_at}"
    return [
        ("arena", f"{format_size(arena.arena_bytes)}: locked {format_size(locked_bytes(arena))}, ring "
                  f"{format_size(arena.ring_bytes)}"),
        ("per token", f"{streamed}; {format_size(p.active_bytes_per_token)} computed with"),
        ("first token", f"{format_seconds(p.first_token_s)}: start {format_seconds(p.cold_start_s)}, prompt and "
                        f"loading {format_size(p.load_bytes)} {format_seconds(p.prompt_s)}"),
        ("decode", f"{p.decode_tokens_per_s:.2f} tok/s, {format_seconds(p.decode_s_per_token)}/token: reading "
                   f"{format_seconds(p.io_s_per_token)} beside computing {format_seconds(p.compute_s_per_token)}"),
        ("drafts", draft_text(plan)),
        ("floor", f"{format_seconds(p.floor_s_per_token)}/token by flash, DRAM and arithmetic alone"),
        ("bottleneck", _bottleneck(plan)),
        ("rates", source),
    ]  # fmt: skip


def _bottleneck(plan: RunPlan) -> str:
    if plan.prediction.bottleneck == "flash":
        return f"flash; everything is resident from --ram {plan.resident_ceiling_bytes >> 20}MiB on"
    if plan.prediction.reads_per_token:
        return (
            "compute, which the reads of streamed weights slow down; everything is resident from --ram "
            f"{plan.resident_ceiling_bytes >> 20}MiB on"
        )
    return "compute: neither more memory nor a faster drive would help"


def _curve(plan: RunPlan) -> Table:
    drafted = ["with drafts"] if plan.draft is not None else []
    names = ["ceiling", "streamed/token", "tok/s", "", *drafted, "first token"]
    table = Table(*names, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    most = max(point.decode_tokens_per_s for point in plan.curve)
    for point in plan.curve:
        bar = "█" * max(1, round(point.decode_tokens_per_s / most * BAR_WIDTH))
        table.add_row(
            format_size(point.ceiling_bytes),
            format_size(point.streamed_bytes_per_token),
            f"{point.decode_tokens_per_s:.2f}",
            bar,
            *(_rate_text(point.drafted_tokens_per_s) for _ in drafted),
            format_seconds(point.first_token_s),
        )
    return table


def _drives(plan: RunPlan) -> Table:
    drafted = ["with drafts"] if plan.draft is not None else []
    table = Table("drive", "tok/s", *drafted, "first token", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for point in plan.drives:
        rates = [f"{point.decode_tokens_per_s:.2f}", *(_rate_text(point.drafted_tokens_per_s) for _ in drafted)]
        table.add_row(f"× {point.ratio:g}", *rates, format_seconds(point.first_token_s))
    return table


def _rate_text(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:.2f}"
