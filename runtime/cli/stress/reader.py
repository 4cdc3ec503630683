"""`tidemill stress reader`; stress/app.py registers it. Names and numbers of options are fio's."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.runtime.cli import flags
from tidemill.runtime.cli.errors import report_errors
from tidemill.runtime.cli.stress import outputs

Rw = Annotated[str, typer.Option("--rw", "--readwrite", help="read (in order) or randread. Nothing is ever written.")]
DEFAULT_SIZE = "512m"


@report_errors
def reader(
    filename: Annotated[
        list[str] | None,
        typer.Option(
            "--filename",
            help="A file, a raw drive, a directory of files or a model; several with colons between them, or given "
            "several times. Without it: a scratch file of --size.",
        ),
    ] = None,
    directory: Annotated[Path, typer.Option("--directory", help="Where a scratch file is made.")] = Path("."),
    rw: Rw = "read",
    bs: Annotated[str | None, typer.Option("--bs", help="Block size. Default: 4k; of a model its own extents.")] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Bytes of the region, of all files together. Default: all of them.")
    ] = None,
    iodepth: Annotated[int, typer.Option("--iodepth", help="Reads under way at once.")] = 1,
    numjobs: Annotated[int, typer.Option("--numjobs", help="Readers beside one another, a process each.")] = 1,
    direct: Annotated[int, typer.Option("--direct", min=0, max=1, help="1: past the page cache, as decoding.")] = 1,
    load_mode: flags.Load = flags.LoadModeChoice.auto,
    runtime: Annotated[str | None, typer.Option("--runtime", help="End after this time: 10s, 2m.")] = None,
    time_based: Annotated[
        bool, typer.Option("--time_based", "--time-based", help="Begin again until --runtime is over.")
    ] = False,
    rate: Annotated[str | None, typer.Option("--rate", help="Order at most so many bytes a second: 500m.")] = None,
    queue: Annotated[
        int, typer.Option("--queue", help="Orders that wait behind each read under way; 3 as when decoding, 0 as fio.")
    ] = 3,
    scatter: Annotated[
        int, typer.Option("--scatter", help="Gather so many single bundles with each order, each to its own place.")
    ] = 0,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Gather what a recorded run selected (tidemill trace).")
    ] = None,
    device: flags.Device = "drive",
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Check every read's checksum. Default: of a model, yes."),
    ] = None,
    compute_load: Annotated[
        int, typer.Option("--compute-load", min=0, help="Threads of kernels that run beside the reads.")
    ] = 0,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="iodepth=1,2,4,8: a job for each value; several make a grid."),
    ] = None,
    vs_fio: Annotated[bool, typer.Option("--vs-fio", help="Do the same with fio, in turns.")] = False,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Turns. Default: 1, with a peer 3.")] = None,
    group_reporting: Annotated[
        bool, typer.Option("--group_reporting", "--group-reporting", help="Add up the jobs of --numjobs.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="Of the job, in the report.")] = "reader",
    randseed: Annotated[int, typer.Option("--randseed", help="Of random orders.")] = 0,
    output_format: outputs.Format = None,
    as_json: outputs.Json = False,
    html: outputs.Html = None,
) -> None:
    """Read with the reader actor alone: rate, latency, and how deep the drive's queue really was."""
    from tidemill.runtime.cli.stress.live import LiveLine
    from tidemill.runtime.cli.stress.reader_flags import ReaderFlags, plan_reader
    from tidemill.runtime.stress.reader.session import ReaderSession

    given = ReaderFlags(
        filename=tuple(filename or ()),
        directory=directory,
        rw=rw,
        bs=bs,
        size=size,
        iodepth=iodepth,
        numjobs=numjobs,
        direct=bool(direct),
        load_mode=load_mode.value,
        runtime=runtime,
        time_based=time_based,
        rate=rate,
        queue=queue,
        scatter=scatter,
        trace=trace,
        device=device,
        verify=verify,
        compute_load=compute_load,
        sweep=tuple(sweep or ()),
        vs_fio=vs_fio,
        rounds=rounds,
        group_reporting=group_reporting,
        name=name,
        randseed=randseed,
    )
    plan = plan_reader(given)
    chosen = outputs.choose_outputs(output_format, as_json, html)
    with LiveLine("reader", quiet=chosen.quiet) as live:
        report = ReaderSession(plan, live.watcher).run()
    outputs.give_out(report, chosen)
