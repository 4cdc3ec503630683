"""`tidemill stress predictor`; stress/app.py registers it."""

from pathlib import Path
from typing import Annotated, cast

import typer

from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress import outputs


@report_errors
def predictor(
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies", help="Of scaled, cross-layer, previous-token, popularity. Default: all that can be."
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="Channels named of a later input, per channel that this one uses.")
    ] = 1.0,
    group: Annotated[
        int, typer.Option("--group", help="Layers to a table, where inputs read the residual stream.")
    ] = 1,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Predict what a recorded run selected (tidemill trace).")
    ] = None,
    activations: Annotated[
        Path | None, typer.Option("--activations", help="What the inputs of that run were (docs/stress.md).")
    ] = None,
    layers: Annotated[int, typer.Option("--layers", help="Of drawn inputs.")] = 16,
    channels: Annotated[int, typer.Option("--channels", help="Of drawn inputs qkv, o and gate_up.")] = 1024,
    neurons: Annotated[int, typer.Option("--neurons", help="Of drawn inputs down.")] = 4096,
    active: Annotated[float, typer.Option("--active", help="Share of the channels that a drawn token uses.")] = 0.3,
    tokens: Annotated[int, typer.Option("--tokens", help="Of drawn inputs.")] = 24,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="Time for each policy. Default: the tokens, once.")
    ] = None,
    randseed: Annotated[int, typer.Option("--randseed", help="Of drawn inputs.")] = 0,
    output_format: outputs.Format = None,
    as_json: outputs.Json = False,
    html: outputs.Html = None,
) -> None:
    """Tell the predictor actor of inputs: how much of what it names is used, and what naming takes, per policy."""
    from tidemill.actors.predictor.config import PreloadKind
    from tidemill.runtime.cli.stress.live import LiveLine
    from tidemill.runtime.stress.fio_numbers import parse_seconds
    from tidemill.runtime.stress.predictor.job import POLICY_NAMES, PredictorJob, check_job
    from tidemill.runtime.stress.predictor.session import run_session

    possible = [name for name in POLICY_NAMES if name != "scaled" or trace is None or activations is not None]
    job = check_job(
        PredictorJob(
            name="predictor",
            policies=cast(tuple[PreloadKind, ...], tuple(policies.split(",") if policies else possible)),
            share=share,
            group=group,
            trace=None if trace is None else str(trace),
            activations=None if activations is None else str(activations),
            layers=layers,
            channels=channels,
            neurons=neurons,
            active=active,
            tokens=tokens,
            runtime_s=None if runtime is None else parse_seconds(runtime),
            seed=randseed,
        )
    )
    chosen = outputs.choose_outputs(output_format, as_json, html)
    with LiveLine("predictor", quiet=chosen.quiet) as live:
        report = run_session(job, live.watcher)
    outputs.give_out(report, chosen)
