"""`tidemill stress link`; stress/app.py registers it."""

from typing import Annotated, cast

import typer

from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress import outputs


@report_errors
def link(
    launcher: Annotated[
        str, typer.Option("--launcher", help="Links of local (between processes), in-process, or both.")
    ] = "local,in-process",
    payload: Annotated[str, typer.Option("--payload", help="Bytes of a message beside its head.")] = "16,256,4k,32k",
    wait: Annotated[
        str,
        typer.Option("--wait", help="How ends wait: spin, block, host (a short spin, then sleep: as actors do)."),
    ] = "spin,block,host",
    runtime: Annotated[str, typer.Option("--runtime", help="Time for each combination.")] = "2",
    pause_us: Annotated[int, typer.Option("--pause-us", help="What a reader that is too slow takes a message.")] = 200,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Also: a reader that stops for good, until the writer's deadline.")
    ] = False,
    output_format: outputs.Format = None,
    as_json: outputs.Json = False,
    html: outputs.Html = None,
) -> None:
    """Send messages over actors' links: round trips beside multiprocessing.Pipe, rates, and readers that are too
    slow."""
    from tidemill.runtime.cli.stress.live import LiveLine
    from tidemill.runtime.options import LauncherName
    from tidemill.runtime.stress.fio_numbers import parse_seconds, parse_size
    from tidemill.runtime.stress.link.job import LinkJob, WaitKind, check_job
    from tidemill.runtime.stress.link.session import LinkSession

    jobs = [
        check_job(
            LinkJob(
                name=f"{name}-{size}" if name == "in-process" else f"{name}-{size}-{way}",
                launcher=cast(LauncherName, name),
                wait=cast(WaitKind, way),
                payload_bytes=parse_size(size),
                runtime_s=parse_seconds(runtime),
                pause_us=pause_us,
                is_stuck=stuck,
            )
        )
        for name in launcher.split(",")
        for size in payload.split(",")
        for way in (["spin"] if name == "in-process" else wait.split(","))
    ]
    chosen = outputs.choose_outputs(output_format, as_json, html)
    with LiveLine("link", quiet=chosen.quiet) as live:
        report = LinkSession(jobs, live.watcher).run()
    outputs.give_out(report, chosen)
