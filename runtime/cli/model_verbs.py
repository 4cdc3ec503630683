"""The verbs about models on this machine: convert, pull, list, info, rm, clean. `main` gives them their names."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.runtime.cli import flags
from tidemill.runtime.cli.errors import report_errors


@report_errors
def convert(
    source: Annotated[Path, typer.Argument(help="A Hugging Face directory with safetensors, or a GGUF file.")],
    destination: Annotated[Path, typer.Argument(help="The model directory to write.")],
    codec: flags.Codec = flags.CodecChoice.auto,
    layout: flags.Layout = flags.LayoutFlag.dense,
    group: flags.Group = 1,
    order: flags.NeuronOrderFile = None,
    order_by: flags.OrderBy = flags.OrderByChoice.frequency,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything again and compare with the source.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="emulate:none,fault=enospc:@SIZE: the disk is full after so many bytes of shards (docs/devices.md).",
        ),
    ] = "drive",
) -> None:
    """Convert a model to tidemill's format. A run that was stopped goes on where it was when called again."""
    from tidemill.runtime.cli.convert import ConvertFlags, convert_command

    convert_command(
        ConvertFlags(
            source=source,
            destination=destination,
            codec=codec.value,
            layout=layout.value,
            group=group,
            order=order,
            order_by=order_by.value,
            verify=verify,
            device=device,
        )
    )


@report_errors
def pull(
    name: Annotated[str, typer.Argument(help="smollm2-135m, or a Hugging Face id ORGANISATION/NAME.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    codec: flags.Codec = flags.CodecChoice.auto,
    offline: Annotated[
        bool, typer.Option("--offline", envvar="HF_HUB_OFFLINE", help="Use only what is on this machine.")
    ] = False,
) -> None:
    """Download a model and convert it into the models directory."""
    from tidemill.runtime.cli.models import pull_command

    pull_command(name, revision, codec.value, offline)


@report_errors
def list_command(as_json: flags.Json = False) -> None:
    """Show the models on this machine."""
    from tidemill.runtime.cli.models import show_models

    show_models(as_json)


@report_errors
def info(model: Annotated[str, typer.Argument(help="A name or path.")], as_json: flags.Json = False) -> None:
    """Show a model's layers, tables, and bytes per codec, plane and token."""
    from tidemill.runtime.cli.models import show_info

    show_info(model, as_json)


@report_errors
def rm(
    name: Annotated[str, typer.Argument(help="A name from `tidemill list`.")],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
) -> None:
    """Delete a model from the models directory."""
    from tidemill.runtime.cli.models import remove_command

    remove_command(name, yes)


@report_errors
def clean() -> None:
    """Remove what engines that ended uncleanly left behind."""
    from tidemill.runtime.cli.models import clean_command

    clean_command()
