"""The flags that all stress verbs share, and what becomes of a report: text, JSON, HTML, an exit status."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tidemill.runtime.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from tidemill.runtime.stress.report import StressReport


class OutputFormat(StrEnum):
    normal = "normal"
    json = "json"
    json_plus = "json+"


Format = Annotated[
    OutputFormat | None,
    typer.Option("--output-format", help="normal; json, with fio's keys and units; json+ with every latency bucket."),
]
Json = Annotated[bool, typer.Option("--json", envvar="TIDEMILL_JSON", help="Short for --output-format=json.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Write a report with plots to this file; it needs nothing to be opened with."),
]


class Outputs(NamedTuple):
    format: OutputFormat
    html: Path | None

    @property
    def quiet(self) -> bool:
        return self.format is not OutputFormat.normal


def choose_outputs(wanted: OutputFormat | None, as_json: bool, html: Path | None) -> Outputs:
    """Raises typer.BadParameter for formats that contradict one another, ReportToolsError where a plot could not be
    drawn in the end."""
    if as_json and wanted is OutputFormat.normal:
        raise typer.BadParameter("--json and --output-format=normal contradict one another")
    if html is not None:
        from tidemill.runtime.stress.html_report import check_html

        check_html(html)
    chosen = wanted or (OutputFormat.json if as_json else OutputFormat.normal)
    return Outputs(chosen, html)


def give_out(report: "StressReport", outputs: Outputs) -> None:
    """The report to stdout and to its file. Exit status 130 where Ctrl-C ended the run, 1 where something failed."""
    if outputs.quiet:
        sys.stdout.write(report.to_json(bins=outputs.format is OutputFormat.json_plus).decode() + "\n")
    else:
        from tidemill.runtime.cli.stress.view import print_report

        print_report(report)
    if outputs.html is not None:
        from tidemill.runtime.stress.html_report import write_html

        write_html(report, outputs.html)
        sys.stderr.write(f"{outputs.html}: report with plots\n")
    sys.stdout.flush()
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(job.error for job in report.jobs):
        raise typer.Exit(EXIT_FAILED)
