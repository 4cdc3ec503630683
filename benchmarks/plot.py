"""Tokens per second over the ceiling: a panel for each throttle, a line for each contender, the floor drawn in."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import SummaryRow, throttle_text


def find_problem() -> str:
    """Why nothing can be drawn, or nothing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return "matplotlib is not installed; install it: pip install 'tidemill[bench]'"
    return ""


def plot(summaries: Sequence[SummaryRow], path: Path) -> None:
    """SVG, PNG or PDF by the path's ending. Points without a ceiling have no place on the axis and are left out."""
    from matplotlib.figure import Figure

    placed = [row for row in summaries if row.ceiling_bytes is not None]
    throttles = list(dict.fromkeys(row.throttle_bytes_per_s for row in placed))
    figure = Figure(figsize=(5.5 * max(1, len(throttles)), 4.5), layout="constrained")
    note = f"\n{summaries[0].model_note}" if summaries[0].model_note else ""
    figure.suptitle(f"{summaries[0].model}{note}", fontsize=10)
    for index, throttle in enumerate(throttles):
        axes = figure.add_subplot(1, len(throttles), index + 1)
        axes.set(title=f"reads {throttle_text(throttle)}", xlabel="ceiling of the process tree, GB", ylabel="tokens/s")
        here = sorted(
            (row for row in placed if row.throttle_bytes_per_s == throttle), key=lambda r: r.ceiling_bytes or 0
        )
        for name in dict.fromkeys(row.contender for row in here):
            rows = [row for row in here if row.contender == name and row.decode_s_per_token]
            axes.errorbar(*_line(rows), marker="o", capsize=3, label=name)
        floor = {(row.ceiling_bytes or 0) / 1e9: 1 / row.floor_s_per_token for row in here}
        axes.plot(list(floor), list(floor.values()), linestyle="--", color="0.4", marker="_", label="floor")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path)


def _line(rows: Sequence[SummaryRow]) -> tuple[list[float], list[float], list[list[float]]]:
    """x, y and how far y reaches down and up over the rounds."""
    rates = [1 / (row.decode_s_per_token or 1) for row in rows]
    down = [rate - 1 / (row.max_s or 1) for rate, row in zip(rates, rows, strict=True)]
    up = [1 / (row.min_s or 1) - rate for rate, row in zip(rates, rows, strict=True)]
    return [(row.ceiling_bytes or 0) / 1e9 for row in rows], rates, [down, up]
