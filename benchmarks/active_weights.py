"""Decode speed of lossy selections beside the exact ring and llama.cpp mmap; what each part of the mechanism brings.

    sudo .venv/bin/python benchmarks/active_weights.py --exact x4.tidemill --source x4 --calibrated smollm2-135m \\
      --trace smollm2.arrow --store /data/conversions --gguf x4-f16.gguf --throttle none,0.8GB/s --out active.jsonl

Sets (--sets), each measured at every throttle; all but `policies` at --ablation-ceilings and the first --sparsity:
  policies   topk, gate and neuron at every ceiling and sparsity
  groups     topk with 1, 2, 4 and 8 layers of a channel side by side, reading ahead and not
  cache      what stays in DRAM: lfu, lru, window, none
  preload    what is read ahead: nothing, or by each policy
  orders     neurons in the source's order, by frequency, by co-activation

Conversions are looked for in --store by name (ic4, gate, neuron-co …) and made of --source where they are missing,
--keep at a time; those that were made are removed after use. Each batch of them takes turns with the exact ring and the
peer (exact, peer, first variant, …), every run a process tree of its own in control groups of its own, after the page
cache was emptied (see decode_vs_peers.py), so that speedups are between neighbours in time.

JSON rows go to stdout and to the end of --out: one for each run, and one for each variant and point (median, least and
most). Runs that --out holds already are not measured again: same code (--label), conversions, flags, point and round.
A table goes to stderr, plots to NAME-speed.svg and NAME-ablation.svg of --plot NAME.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from rich.console import Console

from benchmarks import plot
from benchmarks.active_report import as_table, plot_ablation, plot_speed
from benchmarks.active_rows import EXACT, ActiveRow, ActiveTidemill, Where, active_row, summarise_all
from benchmarks.active_variants import SETS, Conversion, SetName, Variant, plan_batches, plan_variants
from benchmarks.contenders import Contender, LlamaCpp, Task
from benchmarks.conversion_store import ConversionStore, Material
from benchmarks.decode_vs_peers import (
    Model,
    make_task,
    open_model,
    parse_ceilings,
    parse_throttle,
    run_in_turn,
    tell,
    without_problems,
)
from benchmarks.measure import Point
from benchmarks.measured_rows import MeasuredRows, code_revision
from tidemill.runtime.calibration.calibration_file import CalibrationError
from tidemill.runtime.catalog import resolve_model
from tidemill.storage.errors import StorageError

TABLE_COLUMNS = 200  # without a terminal


@dataclass(frozen=True)
class Turn:
    point: Point
    round: int
    contender: Contender
    variant: Variant | None


class Comparison:
    def __init__(self, arguments: argparse.Namespace, model: Model, measured: MeasuredRows[ActiveRow]) -> None:
        self._arguments = arguments
        self._model = model
        self._measured = measured
        self._peers = without_problems([LlamaCpp(arguments.llama_python, gguf) for gguf in arguments.gguf])
        self.seen: list[ActiveRow] = []

    def run_batch(self, conversions: Sequence[Conversion], variants: Sequence[Variant], store: ConversionStore) -> None:
        """Makes what is missing of the batch only if something of it is left to measure."""
        batch = " ".join(conversion.name for conversion in conversions)
        turns = list(self._turns(variants, store))
        left = [turn for turn in turns if not self._measured.find(self._where(turn, batch))]
        if left:
            for conversion in conversions:
                store.provide(conversion)
        with tempfile.TemporaryDirectory(prefix="tidemill-bench-", dir=self._arguments.scratch) as scratch:
            task = make_task(self._arguments, self._model, Path(scratch))
            for number, turn in enumerate(turns, 1):
                where = self._where(turn, batch)
                row = self._measured.find(where) or self._measure(turn, where, task)
                self.seen.append(row)
                tell(f"{batch}: {number} of {len(turns)}: {_short(row)}")
        for conversion in conversions:
            store.remove(conversion)

    def _turns(self, variants: Sequence[Variant], store: ConversionStore) -> Iterator[Turn]:
        arguments = self._arguments
        exact = ActiveTidemill(sys.executable, self._model.directory, name=EXACT)
        own = [
            (variant, ActiveTidemill(sys.executable, store.path_of(variant.conversion), variant.flags, variant.name))
            for variant in variants
        ]
        for point, sets in _points(arguments, self._model.whole_bytes):
            here = [pair for pair in own if pair[0].sets & sets]
            for number in range(arguments.rounds if here else 0):
                for contender in (exact, *self._peers):
                    yield Turn(point, number, contender, None)
                for variant, contender in here:
                    yield Turn(point, number, contender, variant)

    def _measure(self, turn: Turn, where: Where, task: Task) -> ActiveRow:
        given = replace(task, ceiling_bytes=turn.point.ceiling_bytes)
        run = run_in_turn(turn.contender, given, turn.point, self._arguments)
        expected = next((row.token_ids for row in self.seen if row.where.contender == EXACT and row.token_ids), ())
        row = active_row(where, turn.variant, turn.point, self._model.whole_bytes, run, expected)
        self._measured.add(row)
        return row

    def _where(self, turn: Turn, batch: str) -> Where:
        return Where(
            label=self._arguments.label,
            batch=batch,
            model=self._model.directory.name,
            contender=turn.contender.name,
            flags=turn.variant.flags if turn.variant else (),
            ceiling_bytes=turn.point.ceiling_bytes,
            throttle_bytes_per_s=turn.point.throttle_bytes_per_s,
            tokens=self._arguments.tokens,
            prompt_tokens=self._arguments.prompt_tokens,
            round=turn.round,
        )


def _points(arguments: argparse.Namespace, whole_bytes: int) -> Iterator[tuple[Point, frozenset[SetName]]]:
    """Every point, and which sets are measured there."""
    policies = parse_ceilings(arguments.ceilings.split(","), whole_bytes)
    ablation = parse_ceilings(arguments.ablation_ceilings.split(","), whole_bytes)
    for throttle in (parse_throttle(text) for text in arguments.throttle.split(",")):
        for ceiling in dict.fromkeys((*policies, *ablation)):
            sets = {name for name in SETS if ceiling in (policies if name == "policies" else ablation)}
            yield Point(ceiling, throttle), frozenset(sets)


def _short(row: ActiveRow) -> str:
    speed = "" if row.decode_s_per_token is None else f" {row.decode_s_per_token:.3f} s/token"
    return f"{row.where.contender}: {row.outcome}{speed}{' (' + row.detail + ')' if row.detail else ''}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--exact", required=True, help="the model in layout dense, by name or path")
    add("--store", type=Path, required=True, help="where conversions are looked for, and made")
    add("--source", type=Path, help="the same model as a Hugging Face directory or GGUF, to convert")
    add("--calibrated", help="a calibrated conversion of it, or of the small model that it was widened from")
    add("--trace", type=Path, help="what the neurons of --calibrated do, for conversions in another order")
    add("--gguf", type=Path, action="append", default=[], help="the same model for llama.cpp; may be repeated")
    add("--llama-python", default=sys.executable, help="a Python that has llama_cpp")
    add("--sets", default="policies", help=f"of {','.join(SETS)}; all: all of them")
    add("--sparsity", default="0.5,0.7")
    add("--group", type=int, choices=(1, 2, 4, 8), default=4, help="topk's layers side by side; `groups` has all")
    add("--ceilings", default="0.5,0.35,0.25", help="sizes, shares of the model's size in F16, or none")
    add("--ablation-ceilings", default="0.5")
    add("--throttle", default="none", help="of reads: none,0.8GB/s")
    add("--tokens", type=int, default=32)
    add("--prompt-tokens", type=int, default=64)
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--timeout", type=float, default=1800.0, help="seconds for one run")
    add("--pause", type=float, default=0.0, help="seconds before each run, for drives that throttle")
    add("--keep", type=int, default=3, help="conversions on the disk at once")
    add("--scratch", type=Path, help="where logs go; default: the system's")
    add("--label", default=code_revision(), help="names the code that is measured; default: %(default)s")
    add("--out", type=Path, help="JSON rows are added to it, and those that it has are not measured again")
    add("--plot", type=Path, help="plots are drawn beside this name")
    arguments = parser.parse_args()
    arguments.sets = list(SETS) if arguments.sets == "all" else arguments.sets.split(",")
    if unknown := sorted(set(arguments.sets) - set(SETS)):
        parser.error(f"--sets {','.join(unknown)}: expected some of {','.join(SETS)}")
    if arguments.plot is not None and (problem := plot.find_problem()):
        parser.error(f"--plot: {problem}")
    return arguments


def main() -> None:
    arguments = _parse()
    sparsities = [float(text) for text in arguments.sparsity.split(",")]
    variants = plan_variants(cast("list[SetName]", arguments.sets), sparsities, arguments.group)
    measured = MeasuredRows(arguments.out, ActiveRow)
    try:
        model = open_model(arguments.exact)
        calibrated = resolve_model(arguments.calibrated) if arguments.calibrated else None
        store = ConversionStore(arguments.store, Material(arguments.source, calibrated, arguments.trace), tell)
        comparison = Comparison(arguments, model, measured)
        for batch in plan_batches(variants, arguments.keep):
            names = {conversion.name for conversion in batch}
            comparison.run_batch(batch, [variant for variant in variants if variant.conversion in names], store)
    except (StorageError, CalibrationError, ValueError, OSError) as error:
        raise SystemExit(f"active_weights: {error}") from None
    summaries = summarise_all(comparison.seen)
    for summary in summaries:
        measured.write(summary)
    note = f"{model.directory.name}{': ' if model.note else ''}{model.note}"
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else TABLE_COLUMNS)
    console.print(as_table(summaries, note))
    for what in sorted({what for row in comparison.seen for what in row.not_imposed}):
        tell(f"not imposed: {what}")
    if arguments.plot is not None:
        stem = arguments.plot.with_suffix("")
        plot_speed(summaries, stem.with_name(f"{stem.name}-speed.svg"), note)
        plot_ablation(summaries, stem.with_name(f"{stem.name}-ablation.svg"), note)


if __name__ == "__main__":
    main()
