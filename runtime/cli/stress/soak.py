"""`tidemill stress soak`; stress/app.py registers it."""

from pathlib import Path
from typing import Annotated, cast

import typer

from tidemill.runtime.cli.errors import report_errors


@report_errors
def soak(
    model: Annotated[
        str, typer.Option("-m", "--model", envvar="TIDEMILL_MODEL", help="Name or path of a model.")
    ] = "smollm2-135m",
    runtime: Annotated[
        str,
        typer.Option("--runtime", help="Events are begun for so long (60s, 10m), and until every kind came once."),
    ] = "10m",
    seed: Annotated[int, typer.Option("--seed", "--randseed", help="Of which events come, and how.")] = 0,
    event: Annotated[
        int | None, typer.Option("--event", help="Only this event of the seed: to see a failure again.")
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds", help="Of kill, stop, device, damage, page-cache, stdout, flood, cgroup, full-disk. Default: all."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("-n", "--tokens", help="Of each request.")] = 32,
    deadline: Annotated[
        str, typer.Option("--deadline", help="What takes longer hangs, and fails with where every process is.")
    ] = "60s",
    directory: Annotated[
        Path, typer.Option("--directory", help="Where a copy of the model and run directories are made, and removed.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", envvar="TIDEMILL_JSON", help="The report as one object.")] = False,
) -> None:
    """Decode without end while processes are killed and stopped, the drive fails, bytes change, memory and disk run
    out; check everything after each event. Exit status 1 when any failed."""
    from tidemill.runtime.catalog import resolve_model
    from tidemill.runtime.cli.stress.soak_view import SoakProgress, give_out
    from tidemill.runtime.stress.fio_numbers import parse_seconds
    from tidemill.runtime.stress.soak.campaign import Campaign
    from tidemill.runtime.stress.soak.event import KINDS, Kind
    from tidemill.runtime.stress.soak.settings import SoakSettings, check_settings

    chosen = KINDS if kinds is None else cast(tuple[Kind, ...], tuple(kinds.split(",")))
    runtime_s, deadline_s = parse_seconds(runtime), parse_seconds(deadline)
    settings = check_settings(
        SoakSettings(
            model=resolve_model(model),
            model_name=model,
            seed=seed,
            runtime_s=runtime_s,
            tokens=tokens,
            deadline_s=deadline_s,
            directory=directory,
            kinds=chosen,
            only=event,
        )
    )
    with SoakProgress(settings.runtime_s, is_one=event is not None) as progress:
        report = Campaign(settings, progress.watcher).run()
    give_out(report, as_json=as_json)
