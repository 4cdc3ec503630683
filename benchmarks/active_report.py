"""The summaries of active_weights.py as a table, and as two plots."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.active_rows import ActiveSummary, Spread
from benchmarks.report import throttle_text
from tidemill.runtime.sizes import format_size

PARTS = (("stall_s", "waits for the drive"), ("compute_s", "computes"), ("management_s", "everything else"))


def as_table(summaries: Sequence[ActiveSummary], note: str) -> Table:
    table = Table(
        "ceiling", "reads", "variant", "s/token (min to max)", "× exact", "× mmap", "hits", "ahead", "waited", "MB",
        "requests", "KB each", "wanted", "stall", "compute", "rest",
        title=f"active weights{': ' if note else ''}{note}", box=None, pad_edge=False,
    )  # fmt: skip
    for row in summaries:
        table.add_row(
            _ceiling(row), throttle_text(row.where.throttle_bytes_per_s), row.where.contender, _time(row),
            _ratio(row.speedup), _ratio(row.speedup_mmap), *_cells(row),
        )  # fmt: skip
    return table


def plot_speed(summaries: Sequence[ActiveSummary], path: Path, note: str) -> None:
    """Tokens/s over the ceiling, a panel for each throttle: the set `policies`, the exact ring and the peers."""
    from matplotlib.figure import Figure

    placed = [row for row in summaries if row.s_per_token and row.where.ceiling_bytes and _in_plot(row)]
    throttles = list(dict.fromkeys(row.where.throttle_bytes_per_s for row in placed))
    figure = Figure(figsize=(6 * max(1, len(throttles)), 5), layout="constrained")
    figure.suptitle(note, fontsize=10)
    for index, throttle in enumerate(throttles):
        axes = figure.add_subplot(1, len(throttles), index + 1)
        axes.set(title=f"reads {throttle_text(throttle)}", xlabel="ceiling of the process tree, GB", ylabel="tokens/s")
        here = [row for row in placed if row.where.throttle_bytes_per_s == throttle]
        for name in dict.fromkeys(_label(row, summaries) for row in here):
            own = sorted((_place(row) for row in here if _label(row, summaries) == name), key=lambda point: point[0])
            sizes, rates, down, up = zip(*own, strict=True)
            axes.errorbar(sizes, rates, [down, up], marker="o", capsize=3, label=name)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path)


def plot_ablation(summaries: Sequence[ActiveSummary], path: Path, note: str) -> None:
    """Where a token's time goes, a panel for each point at which more than policies were compared."""
    from matplotlib.figure import Figure

    varied = [row for row in summaries if row.s_per_token and set(row.sets) - {"policies"}]
    points = list(dict.fromkeys((row.where.ceiling_bytes, row.where.throttle_bytes_per_s) for row in varied))
    longest = max((sum(_point(row) == point for row in varied) for point in points), default=1)
    figure = Figure(figsize=(7 * max(1, len(points)), 1.5 + 0.28 * longest), layout="constrained")
    figure.suptitle(note, fontsize=10)
    for index, point in enumerate(points):
        axes = figure.add_subplot(1, len(points), index + 1)
        here = [row for row in varied if _point(row) == point][::-1]
        axes.set(title=f"{_ceiling(here[0])}, reads {throttle_text(point[1])}", xlabel="s/token")
        left = [0.0] * len(here)
        for field, label in PARTS:
            widths = [row.medians[field] or 0.0 for row in here]
            axes.barh(range(len(here)), widths, left=left, label=label)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        times = [row.s_per_token or (0.0, 0.0, 0.0) for row in here]
        ends = [[middle - least for least, middle, _ in times], [most - middle for _, middle, most in times]]
        axes.errorbar([t[1] for t in times], range(len(here)), xerr=ends, fmt="k|", capsize=2, label="measured")
        axes.set_yticks(range(len(here)), [_bar_name(row, summaries) for row in here], fontsize=7)
        axes.legend(fontsize=7)
    figure.savefig(path)


def _cells(row: ActiveSummary) -> list[str]:
    found = row.medians
    shares = [found[name] for name in ("hit_ratio", "preloaded_ratio", "demanded_ratio")]
    read, requests, run = found["bytes_per_token"], found["requests_per_token"], found["request_bytes"]
    wanted = found["wanted_byte_ratio"]
    return [
        *("-" if share is None else f"{share:.0%}" for share in shares),
        "-" if read is None else f"{read / 1e6:.0f}",
        "-" if requests is None else f"{requests:.0f}",
        "-" if run is None else f"{run / 1e3:.0f}",
        "-" if wanted is None else f"{wanted:.0%}",
        *("-" if found[name] is None else f"{found[name]:.3f}" for name, _ in PARTS),
    ]


def _time(row: ActiveSummary) -> str:
    bad = sum(outcome != "ok" for outcome in row.outcomes)
    if row.s_per_token is None:
        return ", ".join(dict.fromkeys(row.outcomes))
    least, middle, most = row.s_per_token
    return f"{middle:.3f} ({least:.3f} to {most:.3f}){f', {bad} bad' if bad else ''}"


def _ratio(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread[1]:.2f}"


def _ceiling(row: ActiveSummary) -> str:
    if row.where.ceiling_bytes is None:
        return "none"
    return f"{format_size(row.where.ceiling_bytes)} ({row.ceiling_share or 0:.0%})"


def _in_plot(row: ActiveSummary) -> bool:
    return not row.sets or "policies" in row.sets


def _label(row: ActiveSummary, summaries: Sequence[ActiveSummary]) -> str:
    """The exact ring and peers are measured once with each batch: each time is a line of its own."""
    if row.sets or len({other.where.batch for other in summaries}) == 1:
        return row.where.contender
    return f"{row.where.contender} (beside {row.where.batch})"


def _bar_name(row: ActiveSummary, summaries: Sequence[ActiveSummary]) -> str:
    speed = "" if row.speedup is None else f"  {row.speedup[1]:.2f}×"
    return f"{_label(row, summaries)}{speed}"


def _point(row: ActiveSummary) -> tuple[int | None, int | None]:
    return row.where.ceiling_bytes, row.where.throttle_bytes_per_s


def _place(row: ActiveSummary) -> tuple[float, float, float, float]:
    """x, y and how far y reaches down and up over the rounds."""
    least, middle, most = row.s_per_token or (1.0, 1.0, 1.0)
    return (row.where.ceiling_bytes or 0) / 1e9, 1 / middle, 1 / middle - 1 / most, 1 / least - 1 / middle
