"""The sub-commands of `tidemill stress`; cli/main.py registers them."""

import typer

from tidemill.runtime.cli.stress.arena import arena
from tidemill.runtime.cli.stress.link import link
from tidemill.runtime.cli.stress.pipeline import pipeline
from tidemill.runtime.cli.stress.predictor import predictor
from tidemill.runtime.cli.stress.reader import reader
from tidemill.runtime.cli.stress.soak import soak

app = typer.Typer(
    name="stress",
    help="Load on one part alone, or on several, without a model: the actors' own classes. soak: harm to all of them "
    "while a model decodes. Ctrl-C gives the report so far.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(reader)
app.command()(link)
app.command()(arena)
app.command()(pipeline)
app.command()(predictor)
app.command()(soak)
