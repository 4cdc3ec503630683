"""A report on stdout."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.arena.job import ArenaFigures
from tidemill.runtime.stress.quantities import format_count, format_figure, format_ns
from tidemill.runtime.stress.report import Comparison, StressReport
from tidemill.runtime.stress.report_text import job_lines

WIDTH = 160  # of what is no terminal


def print_report(report: StressReport) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    if report.interrupted:
        console.print("interrupted: what was done up to there")
    arenas = [job.arena for job in report.jobs if job.arena is not None]
    if arenas:
        console.print(report.jobs[0].options["pattern"])
        console.print(arena_table(arenas))
    else:
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


def arena_table(arenas: Sequence[ArenaFigures]) -> Table:
    """A row for each policy and size; `demand`: what the caches hold, in demands of one token."""
    names = ("policy", "arena", "cached", "demand", "hits", "late", "read/token", "evicted/token", "ns/bundle", "rate")
    table = Table(*names, "visit p50", "p99", box=None, pad_edge=False)
    for a in arenas:
        table.add_row(
            a.policy,
            format_size(a.arena_bytes),
            f"{a.cache_share:.0%}",
            f"{a.demand_ratio:.2f}",
            f"{a.hit_rate:.1%}",
            f"{a.late_hit_rate:.1%}",
            f"{a.loaded_per_token:.0f}",
            f"{a.evicted_per_token:.0f}",
            f"{a.management_ns:.0f}",
            f"{format_count(a.bundles_per_s)}/s",
            *(format_ns(a.visit_ns.percentile.get(share, 0)) for share in ("50.000000", "99.000000")),
        )
    return table
