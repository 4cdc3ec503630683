"""The verb `plan`; cli/main.py registers it."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.runtime.cli import draft_flags, flags, selection_flags
from tidemill.runtime.cli.errors import report_errors


@report_errors
def plan(
    model: flags.Model,
    ram: flags.Ram = "auto",
    context: flags.Context = None,
    threads: flags.Threads = None,
    io_depth: flags.IoDepth = 4,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1, help="Length of the prompt.")] = 128,
    flash_rate: Annotated[
        str | None, typer.Option("--flash-rate", help="Plan for a drive of this rate: 0.8GB/s, 500MB/s.")
    ] = None,
    sparsity: selection_flags.SparsityOrAuto = "0",
    select: selection_flags.Select = None,
    operators: selection_flags.Operators = "",
    allocation: selection_flags.AllocationFlag = selection_flags.AllocationChoice.greedy,
    min_quality: selection_flags.MinQuality = None,
    among: Annotated[
        list[str] | None,
        typer.Option(
            "--among",
            help="With --sparsity auto: another conversion of the same source that may be chosen (another --group); "
            "may be given several times.",
        ),
    ] = None,
    residency: selection_flags.Residency = selection_flags.ResidencyChoiceFlag.lfu,
    quotas: selection_flags.Quotas = None,
    preload: selection_flags.Preload = selection_flags.PreloadChoice.none,
    preload_share: selection_flags.PreloadShare = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="With --select: what a run selected, instead of popularities seen elsewhere."),
    ] = None,
    draft: draft_flags.Draft = "auto",
    draft_length: draft_flags.DraftLength = None,
    acceptance: Annotated[
        float | None,
        typer.Option("--acceptance", min=0.0, max=1.0, help="Plan for this share of drafted tokens being right."),
    ] = None,
    as_json: flags.Json = False,
) -> None:
    """Predict a run without running it: memory, bytes and time per token, and what more memory or flash would bring."""
    from tidemill.runtime.cli.plan import PlanFlags, plan_command
    from tidemill.runtime.draft_options import parse_draft

    policy = select.value if select else None
    found = selection_flags.parse_sparsity(sparsity, policy, min_quality)
    selection = selection_flags.parse_selection(
        selection_flags.SelectionFlags(found or 0.0, policy, operators, allocation.value)
    )
    if among and found is not None:
        raise typer.BadParameter("--among needs --sparsity auto: it says what may be chosen")
    if trace is not None and (selection is None or found is None):
        raise typer.BadParameter("--trace needs --select with a --sparsity: those that it was recorded with")
    if found is None:
        selection_flags.check_searched(preload.value, None)
    plan_command(
        PlanFlags(
            model=model,
            ram=ram,
            context=context,
            threads=threads,
            io_depth=io_depth,
            prompt_tokens=prompt_tokens,
            flash_rate=flash_rate,
            as_json=as_json,
            selection=selection,
            is_sparsity_searched=found is None,
            worst_ratio=min_quality,
            residency=residency.value,
            quotas=quotas.value if quotas else None,
            preload=preload.value,
            preload_share=selection_flags.parse_preload_share(preload.value, preload_share),
            trace=trace,
            among=tuple(among or ()),
            draft=parse_draft(draft, draft_length),
            acceptance=acceptance,
        )
    )
