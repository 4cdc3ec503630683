"""`tidemill tune`."""

import sys
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tidemill.runtime.catalog import models_directory, resolve_model
from tidemill.runtime.cli.errors import EXIT_FAILED
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.options import default_threads
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.sizes import format_size, parse_size
from tidemill.runtime.tuning.flash import FlashPlan
from tidemill.runtime.tuning.saved_rates import find_rates, rates_path, save_rates
from tidemill.runtime.tuning.tune import TuneOptions, TuneProgress, choose_model, tune


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneFlags:
    model: str | None
    threads: int | None
    scratch: str
    point_seconds: float
    flash_only: bool
    show: bool
    as_json: bool


def tune_command(flags: TuneFlags) -> None:
    """Measure and save, or show what is saved."""
    model = None if flags.model is None else resolve_model(flags.model)
    if flags.show:
        _print(_saved(model or models_directory()), flags.as_json)
        return
    plan = FlashPlan(seconds=flags.point_seconds)
    threads = default_threads() if flags.threads is None else flags.threads
    if threads > default_threads():
        raise typer.BadParameter(f"-t {threads}: this machine gives {default_threads()} cores")
    options = TuneOptions(
        model=model or choose_model(max(plan.request_sizes)),
        threads=threads,
        flash=plan,
        scratch_bytes=parse_size(flags.scratch),
        kept=None,
    )
    path = rates_path(options.place)
    saved = find_rates(options.place)
    if saved.problem is not None:
        stderr_console().print(f"{saved.problem.rpartition(';')[0]}; it is measured again now", markup=False)
    if flags.flash_only:
        if saved.rates is None:
            raise ValueError("--flash-only keeps the saved rates of DRAM and kernels, and there are none: leave it out")
        options = replace(options, kept=saved.rates)
    with _TuneBar(options) as bar:
        rates = tune(options, bar.show)
    if rates.gathers is None and saved.rates is not None:  # of another model: the machine's, all the same
        rates = msgspec.structs.replace(rates, gathers=saved.rates.gathers)
    save_rates(path, rates)
    _print(rates, flags.as_json)
    stderr_console().print(f"saved in {path}")


def _saved(place: Path) -> MachineRates:
    saved = find_rates(place)
    if saved.rates is None:
        reason = saved.problem or f"nothing is saved for this machine and the file system of {place}"
        stderr_console().print(f"{reason}; measure with: tidemill tune")
        raise typer.Exit(EXIT_FAILED)
    return saved.rates


class _TuneBar:
    """One bar in seconds. A context manager; plain lines per step without a terminal."""

    def __init__(self, options: TuneOptions) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._live = sys.stderr.isatty()
        self._progress = Progress(*columns, console=stderr_console(), transient=True, disable=not self._live)
        self._task = self._progress.add_task("flash", total=options.expected_s)
        self._step = ""

    def __enter__(self) -> "_TuneBar":
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self, progress: TuneProgress) -> None:
        if progress.step != self._step and not self._live:
            sys.stderr.write(f"measuring {progress.step}\n")
        self._step = progress.step
        self._progress.update(self._task, description=progress.step, completed=progress.done_s)


def _print(rates: MachineRates, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(rates).decode() + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{rates.cpu}, {rates.threads} threads; {rates.file_system}; {rates.measured_at}")
    console.print(f"flash, {rates.flash.load_mode} reads of {rates.flash.source}, GB/s over requests under way:")
    points = sorted(rates.flash.points, key=lambda point: (point.request_bytes, point.depth))
    depths = sorted({point.depth for point in points})
    table = Table("request", *(str(depth) for depth in depths), box=None, pad_edge=False)
    for size, row in groupby(points, key=lambda point: point.request_bytes):
        table.add_row(format_size(size), *(f"{point.bytes_per_s / 1e9:.2f}" for point in row))
    console.print(table)
    for name, value in _compute_rows(rates):
        console.print(f"{name:<12}{value}")


def _compute_rows(rates: MachineRates) -> list[tuple[str, str]]:
    batch_1 = ", ".join(f"{kind} {rate / 1e9:.1f} GB/s" for kind, rate in rates.kernels.bytes_per_s.items())
    batches = ", ".join(f"{batch}: {rate / 1e9:.0f}" for batch, rate in sorted(rates.kernels.flop_per_s.items()))
    g = rates.gathers
    gathers = "not measured: no model with single bundles was given"
    if g is not None:
        gathers = (
            f"{g.read_s * 1e6:.1f} µs a read, {g.byte_s * 1e9:.2f} ns a byte, {g.bundle_s * 1e6:.2f} µs a bundle, "
            f"{g.depth} under way"
        )
    return [
        ("bundles", gathers),
        ("DRAM", f"{rates.dram_bytes_per_s / 1e9:.1f} GB/s"),
        ("kernels", f"batch 1: {batch_1}"),
        ("", f"GFLOP/s by batch: {batches}"),
    ]
