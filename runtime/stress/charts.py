"""Plots of a report as SVG text. Needs matplotlib, which nothing else here does."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidemill.runtime.stress.latency_stats import LatencyStats
from tidemill.runtime.stress.report import JobReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (8.0, 3.2)  # inches
CURVES_MAX = 8  # in one plot: more cannot be told apart


def draw(paint: Callable[["Axes"], None], salt: str) -> str:
    """`salt` tells this plot's inner names from those of others on the same page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def latency_chart(curves: Sequence[tuple[str, LatencyStats]]) -> str:
    """How the latencies of each are spread: share of all within a bucket, over time."""

    def paint(axes: "Axes") -> None:
        for name, stats in curves[:CURVES_MAX]:
            values = [int(value) / 1000 for value in stats.bins]
            shares = [100 * count / max(1, stats.N) for count in stats.bins.values()]
            axes.step(values, shares, where="mid", label=name, linewidth=1)
        axes.set(xscale="log", xlabel="latency, µs", ylabel="% of all, per bucket of 1.6 %", ylim=(0, None))
        axes.legend(frameon=False)

    return draw(paint, "latency")


def rate_chart(jobs: Sequence[JobReport]) -> str:
    """Bytes per second over time, slice by slice; of jobs that move no bytes, operations."""
    has_bytes = any(sample.bytes_per_s for job in jobs for sample in job.rate_log)

    def paint(axes: "Axes") -> None:
        for job in jobs[:CURVES_MAX]:
            rates = [sample.bytes_per_s / 1e6 if has_bytes else sample.ios_per_s for sample in job.rate_log]
            axes.plot([sample.ms / 1000 for sample in job.rate_log], rates, label=job.jobname, linewidth=1)
        axes.set(xlabel="s", ylabel="MB/s" if has_bytes else "operations/s", ylim=(0, None))
        axes.legend(frameon=False)

    return draw(paint, "rate")


def sweep_chart(names: Sequence[str], values: Sequence[float], latencies_ns: Sequence[int], unit: str) -> str:
    """A rate over the points of a sweep, and the 99th percentile of latency beside it."""

    def paint(axes: "Axes") -> None:
        places = range(len(names))
        axes.plot(places, values, marker="o", color="C0")
        axes.set_ylabel(unit, color="C0")
        axes.set_ylim(0, None)
        axes.set_xticks(places, names, rotation=30 if len(names) > 6 else 0)
        if any(latencies_ns):
            other = axes.twinx()
            other.plot(places, [ns / 1000 for ns in latencies_ns], marker="s", color="C1", linestyle="--")
            other.set_ylabel("p99 latency, µs", color="C1")
            other.set_ylim(0, None)
            other.spines["top"].set_visible(False)

    return draw(paint, "sweep")


def hit_chart(jobs: Sequence[JobReport]) -> str:
    """Hits over the arena's size, a curve for each policy; one token's demand as a line, the cliff to its left."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        if job.arena is not None:
            curves.setdefault(job.arena.policy, []).append((job.arena.demand_ratio, 100 * job.arena.late_hit_rate))

    def paint(axes: "Axes") -> None:
        for policy, points in curves.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=policy, linewidth=1)
        axes.axvline(1.0, color="grey", linestyle=":", label="one token's demand")
        axes.set(xlabel="what the caches hold, in demands of one token", ylabel="hits, %", ylim=(0, 101))
        axes.legend(frameon=False)

    return draw(paint, "hits")


def pipeline_chart(jobs: Sequence[JobReport]) -> str:
    """Time of a token over the time of computing it, beside the bound."""
    found = sorted((job.pipeline for job in jobs if job.pipeline is not None), key=lambda one: one.compute_ns)
    compute = [one.compute_ns / 1e6 for one in found]

    def paint(axes: "Axes") -> None:
        axes.plot(compute, [one.token_ns.mean / 1e6 for one in found], marker="o", label="token")
        axes.plot(compute, [one.bound_ns / 1e6 for one in found], linestyle=":", label="max(compute, bytes / rate)")
        axes.plot(compute, [one.stall_ns / 1e6 for one in found], marker="s", linewidth=1, label="of it, stall")
        axes.set(xlabel="compute, ms a token", ylabel="ms a token", xlim=(0, None), ylim=(0, None))
        axes.legend(frameon=False)

    return draw(paint, "pipeline")


def recall_chart(jobs: Sequence[JobReport]) -> str:
    """Recall of each policy, by input, with the chance of each policy as a line."""
    found = [job.predictor for job in jobs if job.predictor is not None]
    inputs = list(dict.fromkeys(kind for one in found for kind in one.recall_by_input))

    def paint(axes: "Axes") -> None:
        width = 0.8 / max(1, len(inputs))
        for number, kind in enumerate(inputs):
            places = [place + (number - (len(inputs) - 1) / 2) * width for place in range(len(found))]
            axes.bar(places, [100 * one.recall_by_input.get(kind, 0.0) for one in found], width, label=kind)
        for place, one in enumerate(found):
            axes.plot([place - 0.4, place + 0.4], [100 * one.chance] * 2, color="black", linestyle=":")
        axes.set_xticks(range(len(found)), [one.policy for one in found])
        axes.set(ylabel="recall, % (dotted: chance)", ylim=(0, 100))
        axes.legend(frameon=False, ncols=4)

    return draw(paint, "recall")
