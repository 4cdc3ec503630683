"""The flags of `tidemill trace`; cli/main.py registers it."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.runtime.cli import flags, selection_flags
from tidemill.runtime.cli.errors import report_errors


@report_errors
def trace(
    model: flags.Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; it must not exist.")],
    prompt: flags.Prompt = None,
    file: flags.PromptFile = None,
    max_tokens: flags.MaxTokens = 128,
    context: flags.Context = None,
    threads: flags.Threads = None,
    temperature: flags.Temperature = 0.0,
    top_k: flags.TopK = 0,
    top_p: flags.TopP = 1.0,
    min_p: flags.MinP = 0.0,
    repeat_penalty: flags.RepeatPenalty = 1.0,
    seed: flags.Seed = 0,
    ram: flags.Ram = "auto",
    arena: flags.Arena = None,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    launcher: flags.Launcher = flags.LauncherChoice.local,
    io_depth: flags.IoDepth = 4,
    sparsity: selection_flags.Sparsity = 0.0,
    select: selection_flags.Select = None,
    operators: selection_flags.Operators = "",
    allocation: selection_flags.AllocationFlag = selection_flags.AllocationChoice.greedy,
    residency: selection_flags.Residency = selection_flags.ResidencyChoiceFlag.lfu,
    quotas: selection_flags.Quotas = None,
    hot_set: selection_flags.HotSet = None,
    preload: selection_flags.Preload = selection_flags.PreloadChoice.none,
    preload_share: selection_flags.PreloadShare = None,
    as_json: flags.Json = False,
    verbose: flags.Verbose = False,
) -> None:
    """Record what a lossy run computes with, for `convert --order` and for replays: an Arrow file."""
    from tidemill.runtime.cli.trace import TraceSettings, trace_run

    selection = selection_flags.parse_selection(
        selection_flags.SelectionFlags(sparsity, select.value if select else None, operators, allocation.value)
    )
    opening = flags.Opening(
        model, ram, arena, context, threads, load_mode.value, launcher.value, io_depth,
        selection, residency.value, quotas.value if quotas else None,
        preload.value, selection_flags.parse_preload_share(preload.value, preload_share),
        traces=True,
        hot_set=hot_set,
    )  # fmt: skip
    sampling = flags.SamplingFlags(temperature, top_k, top_p, min_p, repeat_penalty, seed, (), max_tokens)
    trace_run(opening, sampling, TraceSettings(flags.read_prompt(prompt, file), output, as_json, verbose))
