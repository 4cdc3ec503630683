"""`tidemill stress arena`; stress/app.py registers it."""

from pathlib import Path
from typing import Annotated, cast

import typer

from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress import outputs


@report_errors
def arena(
    size: Annotated[
        str, typer.Option("--size", help="Sizes of the arena: 25% of all bundles, or 64m; several with commas.")
    ] = "10%,20%,30%,40%,50%,75%",
    policies: Annotated[
        str | None,
        typer.Option("--policies", help="Of lfu, adaptive, window, lru, hot-set, none. Default: all that can be."),
    ] = None,
    mix: Annotated[
        str, typer.Option("--mix", help="What is visited: zipf:1.0, loop:0.5, scan, or zipf:1*0.8+scan*0.2.")
    ] = "zipf:0.7",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Visit what a recorded run selected (tidemill trace).")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="A trace of other text: what hot-set keeps.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="The trace's model: its tables, groups and sizes.")
    ] = None,
    layers: Annotated[int, typer.Option("--layers", help="Of a mix.")] = 32,
    channels: Annotated[int, typer.Option("--channels", help="Of each layer, in a mix.")] = 4096,
    active: Annotated[float, typer.Option("--active", help="Share of the channels that a token uses, in a mix.")] = 0.3,
    bs: Annotated[str, typer.Option("--bs", help="Bytes of a bundle, where no model says.")] = "4k",
    tokens: Annotated[int, typer.Option("--tokens", help="Of a mix.")] = 64,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="Time for each policy and size. Default: the tokens, once.")
    ] = None,
    window: Annotated[int, typer.Option("--window", help="Tokens that the policy window remembers.")] = 5,
    randseed: Annotated[int, typer.Option("--randseed", help="Of a mix.")] = 0,
    output_format: outputs.Format = None,
    as_json: outputs.Json = False,
    html: outputs.Html = None,
) -> None:
    """Visit the arena actor without any flash: hits, evictions, and what deciding takes, per policy and size."""
    from tidemill.runtime.catalog import resolve_model
    from tidemill.runtime.cli.stress.live import LiveLine
    from tidemill.runtime.stress.arena.job import POLICY_NAMES, ArenaJob, PolicyName, check_job
    from tidemill.runtime.stress.arena.session import run_session
    from tidemill.runtime.stress.fio_numbers import parse_seconds, parse_size

    possible = [name for name in POLICY_NAMES if name != "hot-set" or trace is None or calibration is not None]
    if trace is None and (model or calibration):
        raise typer.BadParameter("--model and --calibration go with --trace: a mix has tables of its own")
    job = check_job(
        ArenaJob(
            name="arena",
            policies=cast(tuple[PolicyName, ...], tuple(policies.split(",") if policies else possible)),
            sizes=tuple(part.strip() for part in size.split(",")),
            mix=mix,
            trace=None if trace is None else str(trace),
            calibration=None if calibration is None else str(calibration),
            model=None if model is None else str(resolve_model(model)),
            layers=layers,
            channels=channels,
            active=active,
            bundle_bytes=parse_size(bs),
            tokens=tokens,
            runtime_s=None if runtime is None else parse_seconds(runtime),
            window=window,
            seed=randseed,
        )
    )
    chosen = outputs.choose_outputs(output_format, as_json, html)
    with LiveLine("arena", quiet=chosen.quiet) as live:
        report = run_session(job, live.watcher)
    outputs.give_out(report, chosen)
