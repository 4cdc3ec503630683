"""How well preload policies predict, per input kind: by distance in layers, and for whole layer groups.

    python benchmarks/prediction_recall.py --trace T.arrow [--activations A.arrow] [--train TRAIN_A.arrow] [--json]

Replays a recorded trace. At each (position, layer) a policy has seen that layer and all before it, and names as many
channels of a later layer as `--budget` times those that layer really used: at 1 recall equals precision for policies
that fill the budget. `chance` is what drawing channels blindly would reach. By group of N layers: predicted when the
first or the last layer of the group before is known. With `shared` sets each channel is read once for all N layers, and
the oracle's figure is the bound of that; with `own` sets each layer has its own, and the oracle's must be 100 %, as by
distance. Layer group 0 is never predicted.
With `--cache` only what a cache of that share lacks counts as used, and is named.
Low-rank policies need `--train`: activations of other text. `--json` prints a JSON row per figure instead of tables.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fixtures.recorded_run import write_recorded_run
from benchmarks.prediction_replay import Replay, Row
from benchmarks.predictor_training import train_gated, train_low_rank
from benchmarks.recorded_trace import RecordedActivations, RecordedTrace, load_activations, load_recorded_trace
from tidemill.actors.predictor.policies.best_per_input import BestPerInputPolicy, choose_best
from tidemill.actors.predictor.policies.cross_layer import CrossLayerPolicy
from tidemill.actors.predictor.policies.gate_first import GateFirstPolicy
from tidemill.actors.predictor.policies.oracle import OraclePolicy
from tidemill.actors.predictor.policies.policy import INPUT_KINDS, PreloadPolicy
from tidemill.actors.predictor.policies.popularity import PopularityPolicy
from tidemill.actors.predictor.policies.previous_token import PreviousTokenPolicy
from tidemill.actors.predictor.policies.random_channels import RandomPolicy
from tidemill.actors.predictor.policies.scaled_cross_layer import ScaledCrossLayerPolicy

DISTANCES = (1, 2, 3, 4, 5, 6, 7, 8)
GROUPS = (1, 2, 4, 8)
RECENT_DECAY = 0.9
SCALE_DECAY = 0.97
UNMEASURED = ("oracle", "random")  # never chosen for the combination
Factories = dict[str, Callable[[], PreloadPolicy]]


def factories(
    trace: RecordedTrace, train: RecordedActivations | None, pairs: Sequence[tuple[int, int]], rank: int
) -> Factories:
    """Every policy by name. `pairs`: the (source, target) layers that low-rank maps are trained for."""
    channels, layers = trace.channels, trace.layer_count
    made: Factories = {
        "cross-layer": lambda: CrossLayerPolicy(channels),
        "scaled-cross-layer": lambda: ScaledCrossLayerPolicy(
            channels, layers, ("qkv", "gate_up"), decay=SCALE_DECAY, prior={}
        ),
        "previous-token": lambda: PreviousTokenPolicy(channels),
        "popularity": lambda: PopularityPolicy(channels, layers, decay=1.0, prior={}),
        "recent": lambda: PopularityPolicy(channels, layers, decay=RECENT_DECAY, prior={}),
        "gate-first": GateFirstPolicy,
        "random": lambda: RandomPolicy(channels, seed=0),
        "oracle": lambda: OraclePolicy(channels, trace),
    }
    if train is not None:
        low_rank = train_low_rank(train, ("o", "down"), pairs, rank)
        made["low-rank"] = lambda: low_rank
        if {"gate", "up"} <= set(train.values):
            gated = train_gated(train, pairs, rank)
            made["gated-low-rank"] = lambda: gated
    return made


def measure(replay: Replay, made: Factories, distances: Sequence[int], groups: Sequence[int]) -> list[Row]:
    """All policies, then the combination of those that were best at the least distance (or group) measured."""
    for name, make in made.items():
        replay.run(name, make(), (0, *distances) if name == "gate-first" else distances, groups)
    rows = list(replay.rows())
    nearest = min(distances, default=None)
    recalls = {
        (row.policy, row.kind): row.recall
        for row in rows
        if row.policy not in UNMEASURED and row.distance == nearest and (nearest is not None or row.group == groups[0])
    }
    best = choose_best(recalls)
    members = {name: made[name]() for name in set(best.values())}
    chosen = BestPerInputPolicy({kind: members[name] for kind, name in best.items()})
    replay.run("best-per-input", chosen, distances, groups)
    return list(replay.rows())


def needed_pairs(layer_count: int, distances: Sequence[int], groups: Sequence[int]) -> list[tuple[int, int]]:
    """The (source, target) layers between which anything is predicted."""
    pairs = {(layer, layer + d) for layer in range(layer_count) for d in distances if layer + d < layer_count}
    for group in groups:
        for start in range(0, layer_count - group, group):
            target = range(start + group, min(start + 2 * group, layer_count))
            pairs |= {(at, layer) for at in (start, start + group - 1) for layer in target}
    return sorted(pairs)


def as_table(rows: Sequence[Row], columns: Sequence[tuple[str, Callable[[Row], bool]]], title: str) -> Table:
    """A line per (policy, kind), a column per condition; cells are recall, and precision where it differs."""
    table = Table("input", "policy", *(name for name, _ in columns), title=title, box=None, pad_edge=False)
    names = list(dict.fromkeys(row.policy for row in rows))
    for kind in INPUT_KINDS:
        of_kind = [row for row in rows if row.kind == kind]
        table.add_row(kind, "(chance)", *(_cell(of_kind, shown, chance=True) for _, shown in columns))
        for name in names:
            of_policy = [row for row in of_kind if row.policy == name]
            if any(row.recall > 0 for row in of_policy):
                table.add_row("", name, *(_cell(of_policy, shown, chance=False) for _, shown in columns))
    return table


def _cell(rows: Sequence[Row], shown: Callable[[Row], bool], *, chance: bool) -> str:
    row = next((row for row in rows if shown(row)), None)
    if row is None or (not chance and row.recall == 0):
        return "-"
    if chance:
        return f"{row.chance:.2f}"
    return f"{row.recall:.2f}" if abs(row.recall - row.precision) < 0.005 else f"{row.recall:.2f}/{row.precision:.2f}"


def print_tables(rows: Sequence[Row], distances: Sequence[int], groups: Sequence[int], title: str) -> None:
    console = Console(width=140)
    by_distance = [(str(d), lambda row, d=d: row.distance == d) for d in (0, *distances)]
    console.print(as_table(rows, by_distance, f"{title}: recall (/precision) by distance in layers"))
    sources = [(n, source) for n in groups for source in ("first", "last") if source == "first" or n > 1]
    for sets in ("shared", "own"):
        by_group = [
            (
                f"N={n} {source}",
                lambda row, n=n, source=source, sets=sets: (row.group, row.source, row.sets) == (n, source, sets),
            )
            for n, source in sources
        ]
        console.print(as_table(rows, by_group, f"{title}: recall (/precision) by layer group, {sets} sets"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="what `tidemill trace` wrote")
    parser.add_argument("--activations", type=Path, help="activations of the same positions")
    parser.add_argument("--train", type=Path, help="activations of other text, for the low-rank policies")
    parser.add_argument("--positions", type=int, default=64, help="replay the first of these (default 64)")
    parser.add_argument("--distances", type=int, nargs="*", default=DISTANCES)
    parser.add_argument("--groups", type=int, nargs="*", default=GROUPS)
    parser.add_argument("--rank", type=int, default=64, help="of the low-rank maps (default 64)")
    parser.add_argument("--budget", type=float, default=1.0, help="channels named per channel used (default 1)")
    parser.add_argument("--cache", type=float, default=0.0, help="share of each input that a contextual LFU holds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a tiny synthetic trace, in JSON: is everything in place?")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as directory:
            trace, activations = write_recorded_run(Path(directory), layers=6, positions=6)
            arguments = f"--json --rank 4 --trace {trace} --activations {activations} --train {activations}"
            report(parser.parse_args([*arguments.split(), "--distances", "1", "3", "--groups", "1", "2"]))
        return
    if options.trace is None:
        parser.error("--trace is needed: record one with `tidemill trace`")
    report(options)


def report(options: argparse.Namespace) -> None:
    trace = load_recorded_trace(options.trace)
    activations = load_activations(options.activations, trace.layer_count) if options.activations else None
    train = load_activations(options.train, trace.layer_count) if options.train else None
    pairs = needed_pairs(trace.layer_count, options.distances, options.groups)
    made = factories(trace, train, pairs, options.rank)
    replay = Replay(
        trace, activations, options.budget, options.cache, range(min(options.positions, trace.position_count))
    )
    rows = measure(replay, made, options.distances, options.groups)
    if not options.json:
        cache = f", beside a cache of {options.cache:.0%}" if options.cache else ""
        title = f"{trace.model}, {trace.policy} {trace.sparsity:.0%}, {len(replay.positions)} positions{cache}"
        print_tables(rows, options.distances, options.groups, title)
        return
    about = {
        "model": trace.model, "selection": trace.policy, "sparsity": trace.sparsity, "positions": len(replay.positions),
        "budget_ratio": options.budget, "cache_share": options.cache, "rank": options.rank,
        "machine": platform.machine(),
        "versions": {"tidemill": importlib.metadata.version("tidemill"), "numpy": np.__version__},
    }  # fmt: skip
    for row in rows:
        print(json.dumps({**asdict(row), **about}))


if __name__ == "__main__":
    main()
