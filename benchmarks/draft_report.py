"""The summaries of draft_vs_peers.py as two tables, and as a plot."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.active_rows import Spread
from benchmarks.draft_rows import DraftSummary, is_peer
from benchmarks.report import throttle_text
from tidemill.runtime.sizes import format_size

SECONDS = ("pass_s", "draft_s", "check_s", "compute_s", "stall_s", "rest_s", "overlap_s", "floor_s")


def as_table(summaries: Sequence[DraftSummary], note: str) -> Table:
    table = Table(
        "ceiling", "reads", "text", "contender", "tok/s (min to max)", "gain", "× mmap", "× memory", "acceptance",
        "tokens/pass", "MB/token", "seen", "same tokens", title=f"drafts{': ' if note else ''}{note}",
        box=None, pad_edge=False,
    )  # fmt: skip
    for row in summaries:
        read = row.medians["bytes_per_token"]
        table.add_row(
            *_place(row), _rate(row), _ratio(row.gain), _ratio(row.times_mmap), _number(row.times_memory, ".2f"),
            _number(row.medians["acceptance"], ".0%"), _number(row.medians["tokens"], ".2f"),
            "-" if read is None else f"{read / 1e6:.0f}", _number(row.medians["seen"], ".0%"),
            {None: "-", True: "yes", False: "NO"}[row.identical],
        )  # fmt: skip
    return table


def as_anatomy_table(summaries: Sequence[DraftSummary]) -> Table:
    """Where a pass's time goes, of the contenders that say."""
    table = Table(
        "ceiling", "reads", "text", "contender", "tokens", "MB", "pass", "draft", "check", "compute", "stall", "rest",
        "overlap", "floor", "× floor", title="a pass, ms", box=None, pad_edge=False,
    )  # fmt: skip
    for row in summaries:
        found = row.medians
        if found["pass_s"] is None:
            continue
        times = (found[name] for name in SECONDS)
        table.add_row(
            *_place(row), _number(found["tokens"], ".2f"), f"{(found['read_bytes'] or 0) / 1e6:.0f}",
            *("-" if time is None else f"{time * 1e3:.0f}" for time in times), _number(found["times_floor"], ".2f"),
        )  # fmt: skip
    return table


def plot_speed(summaries: Sequence[DraftSummary], path: Path, note: str) -> None:
    """Tokens/s over the ceiling: a row of panels for each text, a column for each throttle. What was measured without a
    ceiling is a horizontal line."""
    from matplotlib.figure import Figure

    shown = [row for row in summaries if row.s_per_token]
    texts = list(dict.fromkeys(row.where.text for row in shown))
    throttles = list(dict.fromkeys(row.where.throttle_bytes_per_s for row in shown))
    names = list(dict.fromkeys(row.where.contender for row in shown))
    figure = Figure(figsize=(6 * max(1, len(throttles)), 3.6 * max(1, len(texts))), layout="constrained")
    figure.suptitle(note, fontsize=10)
    for line, text in enumerate(texts):
        for column, throttle in enumerate(throttles):
            axes = figure.add_subplot(len(texts), len(throttles), line * len(throttles) + column + 1)
            axes.set(title=f"{text}, reads {throttle_text(throttle)}", ylabel="tokens/s")
            for index, name in enumerate(names):
                here = [row for row in shown if row.where.throttle_bytes_per_s == throttle and _is_on(row, text)]
                own = [row for row in here if row.where.contender == name]
                points = sorted(_point(row) for row in own if row.where.ceiling_bytes is not None)
                if points:
                    sizes, rates, down, up = zip(*points, strict=True)
                    axes.errorbar(sizes, rates, [down, up], marker="o", capsize=3, color=f"C{index}", label=name)
                for row in own:
                    if row.where.ceiling_bytes is None:
                        told = f"{name}, no ceiling"
                        axes.axhline(_point(row)[1], linestyle=":", color=f"C{index}", label=told)
            axes.set_xlabel("ceiling of the process tree, GB")
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.grid(visible=True, which="both", alpha=0.3)
            if column + 1 == len(throttles):
                axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path)


def _place(row: DraftSummary) -> tuple[str, str, str, str]:
    where = row.where
    share = f" ({row.ceiling_share or 0:.0%})"
    ceiling = "none" if where.ceiling_bytes is None else f"{format_size(where.ceiling_bytes)}{share}"
    return ceiling, throttle_text(where.throttle_bytes_per_s), where.text, where.contender


def _is_on(row: DraftSummary, text: str) -> bool:
    """A peer, measured on one text, stands beside all."""
    return row.where.text == text or is_peer(row.where.contender)


def _rate(row: DraftSummary) -> str:
    bad = sum(outcome != "ok" for outcome in row.outcomes)
    if row.s_per_token is None:
        return ", ".join(dict.fromkeys(row.outcomes))
    least, middle, most = row.s_per_token
    return f"{1 / middle:.2f} ({1 / most:.2f} to {1 / least:.2f}){f', {bad} bad' if bad else ''}"


def _ratio(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread[1]:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _point(row: DraftSummary) -> tuple[float, float, float, float]:
    """x, y and how far y reaches down and up over the rounds."""
    least, middle, most = row.s_per_token or (1.0, 1.0, 1.0)
    return (row.where.ceiling_bytes or 0) / 1e9, 1 / middle, 1 / middle - 1 / most, 1 / least - 1 / middle
