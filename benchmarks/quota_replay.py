"""What it would bring to move quota between the caches of a pool while running (contextual LFU, a dense prompt first).

Beside equal quotas, as the arena has them: quotas that move every --every tokens, and the fixed ones that are best for
the whole trace, which nobody knows before. The second half of the tokens is told apart (`late`).

    python benchmarks/quota_replay.py T.arrow [--sizes 0.25,0.5] [--every 4,16] [--step 0.02]
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.moving_quotas import MovingQuotas, best_quotas
from benchmarks.replayed_trace import ReplayedTrace, TableKey, load_trace, write_synthetic_trace
from benchmarks.table_replay import TableReplay
from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.storage.errors import StorageError


def replay(
    trace: ReplayedTrace, quotas: Mapping[TableKey, int], moving: MovingQuotas | None, every: int
) -> tuple[float, float]:
    """The hit rate, and that of the second half. Quotas move between tokens, each `every` of them."""
    replays = {table: TableReplay(ContextualLfu(count), count, quotas[table]) for table, count in trace.tables.items()}
    if trace.header.prompt_positions:
        for table in replays.values():
            table.read_prompt()
    visits_per_token = len(trace.visits) // max(1, trace.tokens)
    for number, (key, active) in enumerate(trace.visits):
        if moving is not None and number and number % (visits_per_token * every) == 0:
            for moved in moving.move():
                replays[moved].set_quota(moving.quotas[moved])
        replays[key].visit(active, None, late=2 * number >= len(trace.visits))
        if moving is not None:
            moving.see(key, active)
    tallies = [table.close() for table in replays.values()]
    return (
        sum(tally.hits for tally in tallies) / max(1, sum(tally.active for tally in tallies)),
        sum(tally.late_hits for tally in tallies) / max(1, sum(tally.late_active for tally in tallies)),
    )


def load(arguments: argparse.Namespace) -> ReplayedTrace:
    if not arguments.smoke:
        return load_trace(arguments.trace)
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as directory:
        write_synthetic_trace(Path(directory) / "trace.arrow", tokens=40, seed=1)
        return load_trace(Path(directory) / "trace.arrow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="?", help="what `tidemill trace` recorded")
    parser.add_argument("--sizes", default="0.25,0.5", help="shares of each table's bundles")
    parser.add_argument("--every", default="4,16", help="tokens between moves")
    parser.add_argument("--step", type=float, default=0.02, help="of a table's bundles, what moves at once")
    parser.add_argument("--smoke", action="store_true", help="a small synthetic trace: does it run?")
    arguments = parser.parse_args()
    if arguments.trace is None and not arguments.smoke:
        parser.error("name a trace, or --smoke")
    try:
        trace = load(arguments)
    except StorageError as error:
        raise SystemExit(str(error)) from None
    print(f"{'cache':>6} {'quotas':<16} {'hits':>7} {'late':>7}")
    for share in map(float, arguments.sizes.split(",")):
        equal = {table: int(count * share) for table, count in trace.tables.items()}
        rows = {"equal": replay(trace, equal, None, 1)}
        for every in map(int, arguments.every.split(",")):
            moving = MovingQuotas(trace, equal, arguments.step)
            rows[f"moved each {every}"] = replay(trace, equal, moving, every)
        rows["best afterwards"] = replay(trace, best_quotas(trace, equal), None, 1)
        for name, (hits, late) in rows.items():
            print(f"{share:>6.0%} {name:<16} {hits:>7.2%} {late:>7.2%}", flush=True)


if __name__ == "__main__":
    main()
