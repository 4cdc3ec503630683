"""Quality of every lossy policy over sparsity, on one model and text: JSON rows, a table, a plot.

    python benchmarks/quality.py -m MODEL --text lee-evaluation.txt --tokens 20480 --plot docs/quality.svg

The model is calibrated before (`tidemill calibrate`), on another text. All variants run over the same windows beside
the exact model; rows are printed anew after every window, so a run that is stopped has its figures.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.quality_plot import QualityRow, plot_quality
from tidemill.actors.compute.selection.operators import OPERATORS_OF
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.compute.selection.topk import KINDS
from tidemill.runtime.calibration.calibration_file import CalibrationFile
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.text_file import read_tokens
from tidemill.runtime.engine import Engine
from tidemill.runtime.options import EngineOptions, choose_load_mode, default_threads
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SINGLE_SPARSITY = 0.5  # that every input is thinned to alone


def plan_selections(sparsities: Sequence[float], *, with_predictors: bool) -> list[tuple[str, SelectionSpec]]:
    """Groups and selections: every policy at every sparsity, and each input alone."""
    greedy = [("topk greedy", SelectionSpec(policy="topk", sparsity=s)) for s in sparsities]
    alike = [("topk uniform", SelectionSpec(policy="topk", sparsity=s, allocation="uniform")) for s in sparsities]
    gates = [("gate", SelectionSpec(policy="gate", sparsity=s)) for s in sparsities]
    neurons = [("neuron", SelectionSpec(policy="neuron", sparsity=s)) for s in sparsities]
    single = [
        ("single", SelectionSpec(policy="topk", sparsity=SINGLE_SPARSITY, operators=OPERATORS_OF[kind]))
        for kind in KINDS
    ]
    return [*greedy, *alike, *gates, *(neurons if with_predictors else []), *single]


def rows_of(groups: Sequence[str], selections: Sequence[SelectionSpec], sums: ScoreSums) -> list[QualityRow]:
    exact, *others = sums.qualities()
    rows = [QualityRow(name="exact", group="exact", sparsity=0.0, quality=exact)]
    for group, selection, quality in zip(groups, selections, others, strict=True):
        rows.append(QualityRow(name=selection.name, group=group, sparsity=selection.sparsity, quality=quality))
    return rows


def measure(
    options: EngineOptions, windows: Sequence[Sequence[int]], groups: Sequence[str]
) -> Iterator[list[QualityRow]]:
    """The rows after each window."""
    with Engine.open(options, on_event=lambda status: print(status.text, file=sys.stderr)) as engine:
        sums = ScoreSums(engine.manifest.decoder, 1 + len(options.selections))
        done = 0
        for progress in evaluate_windows(engine, windows, sums, "quality"):
            if sums.positions != done:
                done = sums.positions
                print(f"{progress.done:.0f} of {progress.total} windows", file=sys.stderr)
                yield rows_of(groups, options.selections, sums)


def markdown(rows: Sequence[QualityRow]) -> str:
    """One table: a row per sparsity, perplexity · KL · same token of every group."""
    groups = [group for group in dict.fromkeys(row.group for row in rows) if group not in ("exact", "single")]
    exact = rows[0].quality
    lines = [
        f"Exact: perplexity {exact.perplexity:.2f} ± {exact.perplexity_error or 0:.2f}, {exact.positions} positions.",
        "",
        "| sparsity | " + " | ".join(groups) + " |",
        "|---|" + "---|" * len(groups),
    ]
    for sparsity in sorted({row.sparsity for row in rows if row.group in groups}):
        cells = [
            _cell(row.quality) for group in groups for row in rows if (row.group, row.sparsity) == (group, sparsity)
        ]
        lines.append(f"| {sparsity:.0%} | " + " | ".join(cells) + " |")
    lines += ["", "| one input alone | perplexity · KL · same token · weights computed |", "|---|---|"]
    lines += [f"| {row.name} | {_cell(row.quality)} |" for row in rows if row.group == "single"]
    return "\n".join(lines) + "\n"


def _cell(quality: Quality) -> str:
    return f"{quality.perplexity:.2f} · {quality.kl:.3f} · {quality.agreement:.0%} · {quality.weights_computed:.0%}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Quality of every lossy policy over sparsity.")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=20480)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--sparsities", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args(arguments)
    directory = resolve_model(given.model)
    record = CalibrationFile.open(directory).record
    text, token_ids = read_tokens(directory, given.text, given.tokens)
    planned = plan_selections(given.sparsities, with_predictors=record.rank > 0)
    options = EngineOptions(
        model=directory,
        ram_bytes=None,
        arena_bytes=None,
        context=given.window,
        threads=default_threads(),
        load_mode=choose_load_mode("auto"),
        launcher="local",
        io_depth=4,
        selections=tuple(selection for _, selection in planned),
        window=given.window,
    )
    head = {"model": directory.name, "text": text.name, "digest": text.digest, "calibrated_on": record.text.name}
    for rows in measure(options, cut_windows(token_ids, given.window), [group for group, _ in planned]):
        for row in rows:
            print(json.dumps({**head, **asdict(row)}), flush=True)
        if given.table:
            given.table.write_text(markdown(rows))
        if given.plot:
            plot_quality(rows, given.plot, f"{directory.name} on {text.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
