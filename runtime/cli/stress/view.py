"""A report on stdout."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tidemill.runtime.stress.quantities import format_figure
from tidemill.runtime.stress.report import Comparison, StressReport
from tidemill.runtime.stress.report_text import job_lines

WIDTH = 160  # of what is no terminal


def print_report(report: StressReport) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    if report.interrupted:
        console.print("interrupted: what was done up to there")
    for job in report.jobs:
        for line in job_lines(job):
            console.print(line)
    if report.comparisons:
        console.print(comparison_table(report.comparisons))
    for note in report.notes:
        console.print(note)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Medians of the turns, and the ratios of each turn."""
    peer = comparisons[0].peer
    table = Table("job", "figure", "ours", peer, "ratio", "least", "most", "turns", box=None, pad_edge=False)
    for c in comparisons:
        figures = (format_figure(c.figure, c.ours.median), format_figure(c.figure, c.theirs.median))
        ratios = (f"{ratio:.3f}" for ratio in (c.ratio.median, c.ratio.least, c.ratio.most))
        table.add_row(c.jobname, c.figure, *figures, *ratios, str(c.rounds))
    return table
