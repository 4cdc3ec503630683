"""`tidemill stress pipeline`; stress/app.py registers it."""

from pathlib import Path
from typing import Annotated, cast

import typer

from tidemill.runtime.cli import flags
from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress import outputs


@report_errors
def pipeline(
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Whose weights are streamed. Default: a scratch model of noise.")
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Of a scratch model.")] = "256m",
    directory: Annotated[Path, typer.Option("--directory", help="Where a scratch model is made.")] = Path("."),
    compute: Annotated[
        str,
        typer.Option("--compute", help="What a layer takes, whole: 500us,2ms: a job for each. auto: around the bound."),
    ] = "auto",
    arena: Annotated[str, typer.Option("--arena", help="50% of the model, or a size: 100m.")] = "50%",
    iodepth: Annotated[int, typer.Option("--iodepth", help="Reads under way at once.")] = 4,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    launcher: flags.Launcher = flags.LauncherChoice.local,
    device: flags.Device = "drive",
    verify_reads: flags.VerifyReads = True,
    runtime: Annotated[str, typer.Option("--runtime", help="Time for each job.")] = "5",
    tokens: Annotated[int | None, typer.Option("--tokens", help="End after so many, if that is earlier.")] = None,
    touch: Annotated[
        bool, typer.Option("--touch/--no-touch", help="Read every byte once within that time, as kernels do.")
    ] = True,
    mix: Annotated[
        str, typer.Option("--mix", help="Of single bundles: what tokens select (stress arena).")
    ] = "zipf:0.7",
    active: Annotated[float, typer.Option("--active", help="Of single bundles: the share that a token selects.")] = 0.3,
    residency: Annotated[str, typer.Option("--residency", help="Of single bundles: lfu, window, lru, none.")] = "lfu",
    preload: Annotated[
        str, typer.Option("--preload", help="Of single bundles: none, previous-token, popularity.")
    ] = "none",
    randseed: Annotated[int, typer.Option("--randseed", help="Of what is selected.")] = 0,
    output_format: outputs.Format = None,
    as_json: outputs.Json = False,
    html: outputs.Html = None,
) -> None:
    """Stream through predictor, arena and reader under a consumer that takes a set time: GB/s, stalls, and how near the
    bound that is."""
    from tidemill.actors.arena.residency.choose_policy import ResidencyKind
    from tidemill.actors.predictor.config import PreloadKind
    from tidemill.runtime.catalog import resolve_model
    from tidemill.runtime.cli.stress.live import LiveLine
    from tidemill.runtime.cli.stress.reader_flags import parse_reading_device
    from tidemill.runtime.options import choose_load_mode
    from tidemill.runtime.stress.arena.job import parse_arena_size
    from tidemill.runtime.stress.arena.mixes import parse_mix
    from tidemill.runtime.stress.fio_numbers import parse_seconds, parse_size
    from tidemill.runtime.stress.pipeline.consumer import ConsumerSpec
    from tidemill.runtime.stress.pipeline.job import PipelineJob, check_job
    from tidemill.runtime.stress.pipeline.session import PipelinePlan, PipelineSession
    from tidemill.storage.devices.device import LoadMode

    parse_mix(mix)
    is_share = arena.endswith("%")
    job = check_job(
        PipelineJob(
            name="pipeline",
            model="" if model is None else str(resolve_model(model)),
            arena_bytes=0 if is_share else parse_size(arena),
            consumer=ConsumerSpec(layer_ns=0, touches=touch, mix=mix, active=active, seed=randseed),
            launcher=launcher.value,
            iodepth=iodepth,
            load_mode=choose_load_mode(cast(LoadMode, load_mode.value)),
            device=parse_reading_device(device),
            verify_reads=verify_reads,
            tokens=tokens,
            runtime_s=parse_seconds(runtime),
            residency=cast(ResidencyKind, residency),
            preload=cast(PreloadKind, preload),
        )
    )
    times = [] if compute == "auto" else [0 if t.strip() == "0" else parse_seconds(t) for t in compute.split(",")]
    plan = PipelinePlan(
        job=job,
        layer_ns=[round(seconds * 1e9) for seconds in times],
        arena_share=parse_arena_size(arena, 1 << 20) / (1 << 20) if is_share else 0.0,
        scratch=parse_size(size),
        directory=directory,
    )
    chosen = outputs.choose_outputs(output_format, as_json, html)
    with LiveLine("pipeline", quiet=chosen.quiet) as live:
        report = PipelineSession(plan, live.watcher).run()
    outputs.give_out(report, chosen)
