"""Perplexity and KL over sparsity, a line for each policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.quality.scores import Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """`group` is a line of the plot; `single` rows thin one input alone."""

    name: str
    group: str
    sparsity: float
    quality: Quality


def plot_quality(rows: Sequence[QualityRow], path: Path, title: str) -> None:
    """SVG, PNG or PDF by the path's ending. Over the share of the layers' weights that is computed with, too: what a
    sparsity saves differs by policy. Raises ImportError without matplotlib (tidemill[bench])."""
    from matplotlib.figure import Figure

    exact = rows[0].quality
    groups = [group for group in dict.fromkeys(row.group for row in rows) if group not in ("exact", "single")]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"{title}, {exact.positions} positions", fontsize=10)
    by_sparsity, by_weights = figure.subplots(1, 2, sharey=True)
    for group in groups:
        points = [(0.0, exact), *((row.sparsity, row.quality) for row in rows if row.group == group)]
        perplexities = [quality.perplexity for _, quality in points]
        by_sparsity.plot([sparsity for sparsity, _ in points], perplexities, marker="o", label=group)
        by_weights.plot([quality.weights_computed for _, quality in points], perplexities, marker="o", label=group)
    by_sparsity.set(xlabel="sparsity of what the policy thins", ylabel="perplexity", yscale="log")
    by_weights.set(xlabel="share of the layers' weights computed with")
    by_weights.invert_xaxis()
    for axes in (by_sparsity, by_weights):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.axhline(exact.perplexity, color="0.6", linestyle="--")
        axes.grid(alpha=0.3)
    by_sparsity.legend()
    figure.savefig(path)
