"""Replays a recorded trace under every residency policy and Belady's optimum, at several cache sizes.

Each table (one input of one layer) has its own cache of the same share of its bundles, as in the arena, and the classes
that run are the arena's own. A prompt is one dense visit of each table, which is not counted. `lfu-adaptive` is LFU
with quotas that move between tables whose bundles have one size. `global-lru` is one LRU of the same total size over
all tables, from empty. `hot-set` takes its popularity from another trace (`--calibration`) and is left out without
one. `--preload layer` stages what the layer before used of the same input, as far as it is absent: it changes who waits
for a read, never what is cached.

Prints a table, or with --json one JSON row per policy and size:
  hit_rate           active bundles that were cached; late_hit_rate: in the second half of the tokens, past the cold
                     start (the hot set is loaded at start, the others begin with what the prompt left)
  on_demand_share    active bundles that were neither cached nor preloaded
  management_ns      of the processor per active bundle, in visit, stage and settle, and in moving quotas
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import numpy as np
import numpy.typing as npt

from benchmarks.belady import Belady
from benchmarks.global_lru import GlobalLru
from benchmarks.quota_mover import Moves, QuotaMover
from benchmarks.quota_pools import pool_numbers
from benchmarks.replayed_trace import ReplayedTrace, TableKey, load_trace, write_synthetic_trace
from benchmarks.table_replay import TableReplay, Tally
from tidemill.actors.arena.residency.cache_demand import TableCache, warn_of_small_caches
from tidemill.actors.arena.residency.choose_policy import RESIDENCY_KINDS, ResidencyChoice, choose_part_policy
from tidemill.actors.arena.residency.moving_quotas import RULES
from tidemill.actors.arena.residency.policy import Ids, Index, ResidencyPolicy
from tidemill.storage.errors import StorageError

ADAPTIVE = "lfu-adaptive"
POLICIES = (*RESIDENCY_KINDS, ADAPTIVE, "belady", "global-lru")
Popularity = dict[TableKey, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Row:
    """Shares are of the active bundles, counts are means per token."""

    policy: str
    cache_share: float
    preload: str
    hit_rate: float
    late_hit_rate: float
    on_demand_share: float
    preload_hit_share: float
    wasted_share: float
    evicted_per_token: float
    loaded_per_token: float
    management_ns: float
    management_ms_per_token: float
    moving_ms_per_token: float  # of that, for quotas that move
    quota_moved_per_token: float  # bundles
    below_demand: bool  # some cache holds less than one token's mean demand
    hit_rate_by_input: dict[str, float]
    model: str
    selection: str
    sparsity: float
    tokens: int
    active: int
    machine: str
    versions: dict[str, str]


def make_policy(
    name: str, trace: ReplayedTrace, table: TableKey, window: int, popularity: Popularity | None, quota: int = 0
) -> ResidencyPolicy:
    """That of the arena, which loads a table at the start whose `quota` holds it."""
    count = trace.tables[table]
    if name == "belady":
        return Belady(count, trace.visits_of(table))
    kind = next(kind for kind in RESIDENCY_KINDS if kind == ("lfu" if name == ADAPTIVE else name))
    uses = None if popularity is None else popularity[table]
    return choose_part_policy(ResidencyChoice(kind, window), count, quota, uses)


def replay_tables(
    trace: ReplayedTrace,
    policies: Mapping[TableKey, ResidencyPolicy],
    quotas: Mapping[TableKey, int],
    preload: str,
    moves: Moves | None = None,
) -> dict[TableKey, Tally]:
    """`moves` None: quotas are fixed."""
    tables = trace.tables
    replays = {key: TableReplay(policy, tables[key], quotas[key]) for key, policy in policies.items()}
    mover = None if moves is None else QuotaMover(replays, moves)
    if trace.header.prompt_positions:
        for table in replays.values():
            table.read_prompt()
    used: dict[TableKey, Ids] = {}
    for number, (key, active) in enumerate(trace.visits):
        guess = used.get(TableKey(key.layer - 1, key.input)) if preload == "layer" else None
        replays[key].visit(active, guess, late=2 * number >= len(trace.visits))
        used[key] = active
        if mover is not None:
            mover.visited(key)
    return {key: table.close() for key, table in replays.items()}


def replay_globally(trace: ReplayedTrace, share: float) -> dict[TableKey, Tally]:
    tables = trace.tables
    starts = dict(zip(tables, np.cumsum([0, *tables.values()])[:-1].tolist(), strict=True))
    lru = GlobalLru(sum(tables.values()), sum(int(count * share) for count in tables.values()))
    tallies = {key: Tally() for key in tables}
    for number, (key, active) in enumerate(trace.visits):
        begun = time.thread_time_ns()
        index: Index = active.astype(np.intp) + starts[key]
        evicted = lru.evicted
        hits = lru.visit(index)
        tally = tallies[key]
        tally.busy_ns += time.thread_time_ns() - begun
        tally.evicted += lru.evicted - evicted
        tally.add_hits(active.size, hits, late=2 * number >= len(trace.visits))
    return tallies


def replay(
    trace: ReplayedTrace, name: str, share: float, arguments: argparse.Namespace, popularity: Popularity | None
) -> Row:
    if name == "global-lru":
        return summarise(trace, name, share, "none", replay_globally(trace, share))
    quotas = {table: int(count * share) for table, count in trace.tables.items()}
    policies = {
        table: make_policy(name, trace, table, arguments.window, popularity, quota) for table, quota in quotas.items()
    }
    label = f"window of {arguments.window}" if name == "window" else name
    moves = Moves(pool_numbers(trace), RULES) if name == ADAPTIVE else None
    tallies = replay_tables(trace, policies, quotas, arguments.preload, moves)
    return summarise(trace, label, share, arguments.preload, tallies)


def summarise(trace: ReplayedTrace, policy: str, share: float, preload: str, tallies: dict[TableKey, Tally]) -> Row:
    def total(field: str, tables: Sequence[TableKey] = tuple(tallies)) -> int:
        return sum(getattr(tallies[table], field) for table in tables)

    active, hits, preload_hits = max(1, total("active")), total("hits"), total("preload_hits")
    tokens, busy_ns = max(1, trace.tokens), total("busy_ns") + total("moving_ns")
    by_input = {name: [table for table in tallies if table.input == name] for name in trace.header.inputs}
    return Row(
        policy=policy,
        cache_share=share,
        preload=preload,
        hit_rate=hits / active,
        late_hit_rate=total("late_hits") / max(1, total("late_active")),
        on_demand_share=(active - hits - preload_hits) / active,
        preload_hit_share=preload_hits / active,
        wasted_share=total("wasted") / active,
        evicted_per_token=total("evicted") / tokens,
        loaded_per_token=(active - hits + total("wasted")) / tokens,
        management_ns=busy_ns / active,
        management_ms_per_token=busy_ns / tokens / 1e6,
        moving_ms_per_token=total("moving_ns") / tokens / 1e6,
        quota_moved_per_token=total("moved") / tokens,
        below_demand=warn_of_small_caches(caches_of(trace, share)) is not None,
        hit_rate_by_input={name: total("hits", of) / max(1, total("active", of)) for name, of in by_input.items()},
        model=trace.header.model,
        selection=trace.header.policy,
        sparsity=trace.header.sparsity,
        tokens=trace.tokens,
        active=total("active"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        versions={name: importlib.metadata.version(name) for name in ("tidemill", "numpy", "pyarrow")},
    )


def caches_of(trace: ReplayedTrace, share: float) -> list[TableCache]:
    """What each table's cache holds beside what the mean token of this trace needs of it."""
    used, visits = dict.fromkeys(trace.tables, 0), dict.fromkeys(trace.tables, 0)
    for table, ids in trace.visits:
        used[table] += ids.size
        visits[table] += 1
    return [
        TableCache(
            f"{table.input} of layer {table.layer}",
            count,
            used[table] / max(1, visits[table] * count),
            int(count * share),
        )
        for table, count in trace.tables.items()
    ]


def print_table(rows: Sequence[Row]) -> None:
    inputs = list(rows[0].hit_rate_by_input) if rows else []
    print(f"{'policy':<12} {'cache':>6} {'hits':>6} {'late':>6} {'demand':>7} {'wasted':>7} {'evicted/token':>14} "
          f"{'ns/bundle':>10}  {'  '.join(f'{name:>8}' for name in inputs)}")  # fmt: skip
    for row in rows:
        shares = "  ".join(f"{rate:8.1%}" for rate in row.hit_rate_by_input.values())
        print(f"{row.policy:<12} {row.cache_share:>6.0%} {row.hit_rate:>6.1%} {row.late_hit_rate:>6.1%} "
              f"{row.on_demand_share:>7.1%} {row.wasted_share:>7.1%} {row.evicted_per_token:>14.0f} "
              f"{row.management_ns:>10.0f}  {shares}{'  below demand' if row.below_demand else ''}")  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="?", help="what `tidemill trace` recorded")
    parser.add_argument("--calibration", type=Path, help="a trace of other text, for the hot set")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--sizes", default="0.1,0.25,0.4,0.5,0.6,0.75", help="shares of each table's bundles")
    parser.add_argument("--window", type=int, default=5, help="tokens of the window policy")
    parser.add_argument("--preload", choices=("none", "layer"), default="none")
    parser.add_argument("--json", action="store_true", help="JSON rows in place of the table")
    parser.add_argument("--smoke", action="store_true", help="a small synthetic trace: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.policies.split(",")) - set(POLICIES):
        parser.error(f"unknown policies {', '.join(sorted(unknown))}; there are {', '.join(POLICIES)}")
    if arguments.trace is None and not arguments.smoke:
        parser.error("name a trace, or --smoke")
    return arguments


def load(arguments: argparse.Namespace) -> tuple[ReplayedTrace, Popularity | None]:
    if arguments.smoke:
        with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as directory:
            path = Path(directory) / "trace.arrow"
            write_synthetic_trace(path, tokens=40, seed=1)
            trace = load_trace(path)
        return trace, trace.popularity()
    trace = load_trace(arguments.trace)
    if arguments.calibration is None:
        return trace, None
    calibration = load_trace(arguments.calibration)
    if calibration.tables != trace.tables:
        raise SystemExit(f"{arguments.calibration} has other tables than {arguments.trace}")
    return trace, calibration.popularity()


def main() -> None:
    arguments = parse_arguments()
    try:
        trace, popularity = load(arguments)
    except StorageError as error:
        raise SystemExit(str(error)) from None
    rows: list[Row] = []
    for share in map(float, arguments.sizes.split(",")):
        for name in arguments.policies.split(","):
            if name == "hot-set" and popularity is None:
                continue
            sys.stderr.write(f"{name} with {share:.0%} of each table\n")
            row = replay(trace, name, share, arguments, popularity)
            rows.append(row)
            if arguments.json:
                print(json.dumps(asdict(row)), flush=True)
    if not arguments.json:
        print_table(rows)


if __name__ == "__main__":
    main()
