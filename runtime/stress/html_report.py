"""A report as one HTML file with plots: no script, nothing from elsewhere, so it opens anywhere and stays."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from tidemill.runtime.stress.quantities import format_figure
from tidemill.runtime.stress.report import JobReport, StressReport
from tidemill.runtime.stress.report_text import job_lines
from tidemill.storage.atomic_file import write_atomically

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tidemill stress {{ report.verb }}, {{ report.time }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
pre { background: #f5f5f4; padding: .8rem; overflow-x: auto; font-size: 12.5px }
table { border-collapse: collapse } th, td { text-align: right; padding: .15rem .8rem; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
svg { max-width: 100%; height: auto } .warn { color: #a40 }
</style></head><body>
<h1>tidemill stress {{ report.verb }}</h1>
<p>{{ report.time }} · tidemill {{ report.version }} · {{ report.machine.cpu }}, {{ report.machine.cores }} cores ·
{{ report.machine.system }}</p>
{% if report.interrupted %}<p class="warn">Interrupted: what was done up to there.</p>{% endif %}
{% for note in report.notes %}<p>{{ note }}</p>{% endfor %}
{% for chart in charts %}<h2>{{ chart.title }}</h2>{{ chart.svg | safe }}{% endfor %}
{% if report.comparisons %}<h2>Beside {{ report.comparisons[0].peer }}, in turns</h2>
<table><tr><th>job<th>figure<th>ours<th>{{ report.comparisons[0].peer }}<th>ratio<th>least<th>most<th>turns</tr>
{% for c in report.comparisons %}<tr><td>{{ c.jobname }}<td>{{ c.figure }}<td>{{ figure(c.figure, c.ours.median) }}
<td>{{ figure(c.figure, c.theirs.median) }}<td>{{ "%.3f" % c.ratio.median }}<td>{{ "%.3f" % c.ratio.least }}
<td>{{ "%.3f" % c.ratio.most }}<td>{{ c.rounds }}</tr>{% endfor %}</table>{% endif %}
<h2>Jobs</h2>
{% for job in report.jobs %}<pre>{{ lines(job) | join("\\n") }}</pre>{% endfor %}
<details><summary>As JSON</summary><pre>{{ json }}</pre></details>
</body></html>
"""


class ReportToolsError(ValueError):
    """An HTML report cannot be made here; said before anything runs."""


class Chart(NamedTuple):
    title: str
    svg: str  # drawn here, so trusted


def check_html(path: Path) -> None:
    """Raises ReportToolsError where `write_html` would fail."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ReportToolsError(
            "--html draws with matplotlib, which is not installed; pip install 'tidemill[report]', or leave --html out"
        )
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise ReportToolsError(f"--html {path} is no file that can be written here; name one in a directory of yours")


def write_html(report: StressReport, path: Path) -> None:
    """Raises OSError."""
    write_atomically(path, render_html(report).encode())


def render_html(report: StressReport) -> str:
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    return page.render(
        report=report,
        charts=draw_charts(report.jobs),
        figure=format_figure,
        lines=job_lines,
        json=report.to_json(bins=False).decode(),
    )


def draw_charts(jobs: Sequence[JobReport]) -> list[Chart]:
    """Those that the jobs have something to show in."""
    from tidemill.runtime.stress import charts

    drawn: list[Chart] = []
    curves = [curve for job in jobs for curve in job.latencies]
    if curves:
        drawn.append(Chart("Latency", charts.latency_chart(curves)))
    timed = [job for job in jobs if len(job.rate_log) > 1]
    if timed:
        drawn.append(Chart("Rate over time", charts.rate_chart(timed)))
    swept = [(job.jobname, job.read) for job in jobs if job.read is not None]
    if len(swept) > 1 and all("=" in name for name, _ in swept):
        p99 = [read.clat_ns.percentile.get("99.000000", 0) for _, read in swept]
        rates = [read.bw_bytes / 1e6 for _, read in swept]
        drawn.append(Chart("Sweep", charts.sweep_chart([name for name, _ in swept], rates, p99, "MB/s")))
    if any(job.arena is not None for job in jobs):
        drawn.append(Chart("Hits over the arena's size", charts.hit_chart(jobs)))
    if any(job.predictor is not None for job in jobs):
        drawn.append(Chart("Recall", charts.recall_chart(jobs)))
    if sum(job.pipeline is not None for job in jobs) > 1:
        drawn.append(Chart("Time of a token over its compute", charts.pipeline_chart(jobs)))
    return drawn
