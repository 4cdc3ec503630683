"""The verbs that measure and prepare lossy modes; cli/main.py registers them."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.runtime.cli import flags, selection_flags
from tidemill.runtime.cli.errors import report_errors

TextFile = Annotated[Path, typer.Option("--text", help="A file of UTF-8 text.")]


@report_errors
def eval_(
    model: flags.Model,
    text: TextFile,
    sparsity: selection_flags.Sparsity = 0.0,
    select: selection_flags.Select = None,
    operators: selection_flags.Operators = "",
    allocation: selection_flags.AllocationFlag = selection_flags.AllocationChoice.greedy,
    tokens: Annotated[int | None, typer.Option("--tokens", min=2, help="Only the first of the text.")] = None,
    context: Annotated[
        int | None, typer.Option("-c", "--ctx-size", min=2, help="Tokens of a window. Default: 512.")
    ] = None,
    threads: flags.Threads = None,
    ram: flags.Ram = "auto",
    arena: flags.Arena = None,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    launcher: flags.Launcher = flags.LauncherChoice.local,
    io_depth: flags.IoDepth = 4,
    as_json: flags.Json = False,
    verbose: flags.Verbose = False,
) -> None:
    """Measure the perplexity of a text, and what a lossy selection does to it: perplexity, KL, same greedy token."""
    from tidemill.runtime.cli.evaluate import EvalFlags, eval_command

    opening = flags.Opening(model, ram, arena, context, threads, load_mode.value, launcher.value, io_depth)
    selection = selection_flags.SelectionFlags(
        sparsity, None if select is None else select.value, operators, allocation.value
    )
    eval_command(opening, selection, EvalFlags(text=text, tokens=tokens, as_json=as_json))


@report_errors
def calibrate(
    model: flags.Model,
    text: Annotated[Path | None, typer.Option("--text", help="A file of UTF-8 text.")] = None,
    like: Annotated[
        Path | None, typer.Option("--from", help="Take the calibration of another conversion of the same source.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=4, help="Only the first of the text.")] = 16384,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Of the neuron predictors; 0: none.")] = 64,
    card_tokens: Annotated[
        int, typer.Option("--card-tokens", min=0, help="At the text's end, for the quality card; 0: none.")
    ] = 2048,
    context: Annotated[
        int | None, typer.Option("-c", "--ctx-size", min=2, help="Tokens of a window. Default: 512.")
    ] = None,
    threads: flags.Threads = None,
    ram: flags.Ram = "auto",
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    io_depth: flags.IoDepth = 4,
    as_json: flags.Json = False,
    verbose: flags.Verbose = False,
) -> None:
    """Prepare a model's lossy modes on a text: thresholds, neuron predictors, and a card of their quality."""
    from tidemill.runtime.cli.calibrate import CalibrateFlags, calibrate_command, copy_calibration

    if (text is None) == (like is None):
        raise typer.BadParameter("give either --text FILE, or --from MODEL that was calibrated")
    if like is not None:
        copy_calibration(like, model)
        return
    assert text is not None
    opening = flags.Opening(model, ram, None, context, threads, load_mode.value, "in-process", io_depth)
    calibrate_command(
        opening,
        CalibrateFlags(text=text, tokens=tokens, rank=rank, card_tokens=card_tokens, as_json=as_json),
    )
