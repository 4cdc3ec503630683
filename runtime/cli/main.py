"""The `tidemill` command: one function per verb, here or in `*_verbs`, everything heavy imported inside.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM, 129
by SIGHUP.
"""

import signal
from types import FrameType
from typing import Annotated

import typer

from tidemill import __version__
from tidemill.runtime.cli import draft_flags, flags, model_verbs, plan_verb, quality_verbs, selection_flags, trace_verb
from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress.app import app as stress_app

app = typer.Typer(
    name="tidemill",
    help="Run language models that are bigger than the memory they may use: weights stream from flash through a "
    "fixed arena.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidemill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
@report_errors
def run(
    model: flags.Model,
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
    stop: flags.Stop = None,
    ram: flags.Ram = "auto",
    arena: flags.Arena = None,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    launcher: flags.Launcher = flags.LauncherChoice.local,
    io_depth: flags.IoDepth = 4,
    device: flags.Device = "drive",
    verify_reads: flags.VerifyReads = True,
    restart: flags.Restart = None,
    sparsity: selection_flags.SparsityOrAuto = "0",
    select: selection_flags.Select = None,
    operators: selection_flags.Operators = "",
    allocation: selection_flags.AllocationFlag = selection_flags.AllocationChoice.greedy,
    min_quality: selection_flags.MinQuality = None,
    residency: selection_flags.Residency = selection_flags.ResidencyChoiceFlag.lfu,
    quotas: selection_flags.Quotas = None,
    hot_set: selection_flags.HotSet = None,
    preload: selection_flags.Preload = selection_flags.PreloadChoice.none,
    preload_share: selection_flags.PreloadShare = None,
    draft: draft_flags.Draft = "auto",
    draft_length: draft_flags.DraftLength = None,
    as_json: flags.Json = False,
    csv: flags.Csv = None,
    verbose: flags.Verbose = False,
) -> None:
    """Continue a prompt (raw completion). The text goes to stdout, progress and summary to stderr."""
    from tidemill.runtime.cli.run import RunSettings, run_prompt

    policy = select.value if select else None
    found = selection_flags.parse_sparsity(sparsity, policy, min_quality)
    selection = selection_flags.parse_selection(
        selection_flags.SelectionFlags(found or 0.0, policy, operators, allocation.value)
    )
    if found is None:
        selection_flags.check_searched(preload.value, arena)
    opening = flags.Opening(
        model, ram, arena, context, threads, load_mode.value, launcher.value, io_depth,
        selection, residency.value, quotas.value if quotas else None,
        preload.value, selection_flags.parse_preload_share(preload.value, preload_share),
        is_sparsity_searched=found is None, worst_ratio=min_quality,
        hot_set=hot_set, draft=draft, draft_length=draft_length, device=device, verify_reads=verify_reads,
        restart=restart,
    )  # fmt: skip
    sampling = flags.SamplingFlags(
        temperature, top_k, top_p, min_p, repeat_penalty, seed, tuple(stop or ()), max_tokens
    )
    run_prompt(opening, sampling, RunSettings(flags.read_prompt(prompt, file), as_json, csv, verbose))


@app.command()
@report_errors
def chat(
    model: flags.Model,
    system: flags.System = None,
    max_tokens: flags.MaxTokens = 512,
    context: flags.Context = None,
    threads: flags.Threads = None,
    temperature: flags.Temperature = 0.0,
    top_k: flags.TopK = 0,
    top_p: flags.TopP = 1.0,
    min_p: flags.MinP = 0.0,
    repeat_penalty: flags.RepeatPenalty = 1.0,
    seed: flags.Seed = 0,
    stop: flags.Stop = None,
    ram: flags.Ram = "auto",
    arena: flags.Arena = None,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    launcher: flags.Launcher = flags.LauncherChoice.local,
    io_depth: flags.IoDepth = 4,
    device: flags.Device = "drive",
    verify_reads: flags.VerifyReads = True,
    restart: flags.Restart = None,
    sparsity: selection_flags.SparsityOrAuto = "0",
    select: selection_flags.Select = None,
    operators: selection_flags.Operators = "",
    allocation: selection_flags.AllocationFlag = selection_flags.AllocationChoice.greedy,
    min_quality: selection_flags.MinQuality = None,
    residency: selection_flags.Residency = selection_flags.ResidencyChoiceFlag.lfu,
    quotas: selection_flags.Quotas = None,
    hot_set: selection_flags.HotSet = None,
    preload: selection_flags.Preload = selection_flags.PreloadChoice.none,
    preload_share: selection_flags.PreloadShare = None,
    draft: draft_flags.Draft = "auto",
    draft_length: draft_flags.DraftLength = None,
    verbose: flags.Verbose = False,
) -> None:
    """Talk to a model in its own chat template. Ctrl-C stops an answer; Ctrl-D or /exit leaves."""
    from tidemill.runtime.cli.chat import chat_loop

    policy = select.value if select else None
    found = selection_flags.parse_sparsity(sparsity, policy, min_quality)
    selection = selection_flags.parse_selection(
        selection_flags.SelectionFlags(found or 0.0, policy, operators, allocation.value)
    )
    if found is None:
        selection_flags.check_searched(preload.value, arena)
    opening = flags.Opening(
        model, ram, arena, context, threads, load_mode.value, launcher.value, io_depth,
        selection, residency.value, quotas.value if quotas else None,
        preload.value, selection_flags.parse_preload_share(preload.value, preload_share),
        is_sparsity_searched=found is None, worst_ratio=min_quality,
        hot_set=hot_set, draft=draft, draft_length=draft_length, device=device, verify_reads=verify_reads,
        restart=restart,
    )  # fmt: skip
    sampling = flags.SamplingFlags(
        temperature, top_k, top_p, min_p, repeat_penalty, seed, tuple(stop or ()), max_tokens
    )
    chat_loop(opening, sampling, system, verbose)


app.command()(model_verbs.convert)
app.command()(model_verbs.pull)
app.command("list")(model_verbs.list_command)
app.command()(model_verbs.info)
app.command()(model_verbs.rm)


@app.command()
@report_errors
def doctor(
    model: Annotated[str | None, typer.Option("-m", "--model", help="Check this model too.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Verify the model's every byte.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Check this machine and a model, changing nothing. Exit status 1 when something is wrong."""
    from tidemill.runtime.cli.doctor import doctor_command

    doctor_command(model, deep, as_json)


@app.command()
@report_errors
def tune(
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Measure on this model's shards and file system.")
    ] = None,
    threads: flags.Threads = None,
    scratch: Annotated[
        str, typer.Option("--scratch", help="Largest scratch file, where no model is there to read.")
    ] = "512MiB",
    point_seconds: Annotated[
        float, typer.Option("--point-seconds", min=0.001, help="Time for each request size and depth.")
    ] = 0.6,
    flash_only: Annotated[
        bool, typer.Option("--flash-only", help="Measure the drive again; keep the rest as saved.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print what is saved; measure nothing.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Measure this machine once, for `plan`: flash, DRAM and kernels. Less than a minute."""
    from tidemill.runtime.cli.tune import TuneFlags, tune_command

    tune_command(
        TuneFlags(
            model=model,
            threads=threads,
            scratch=scratch,
            point_seconds=point_seconds,
            flash_only=flash_only,
            show=show,
            as_json=as_json,
        )
    )


app.command()(plan_verb.plan)
app.command("eval")(quality_verbs.eval_)
app.command()(quality_verbs.calibrate)
app.command()(trace_verb.trace)
app.command()(model_verbs.clean)
app.add_typer(stress_app)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored, and that is to stay
            signal.signal(number, _end)
    app()


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that everything is removed, and end with the shell's status for the signal."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
