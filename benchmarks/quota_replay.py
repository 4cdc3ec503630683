"""What it would bring to move quota between the caches of a pool while running (contextual LFU, a dense prompt first).

Beside equal quotas, as the arena begins with: quotas that move by its own rule (every one of --first with every
one of --most), and the fixed ones that are best for the whole trace, which nobody knows before. The second half of the
tokens is told apart (`late`).

    python benchmarks/quota_replay.py T.arrow [--sizes 0.25,0.5] [--first 4,16] [--most 16,64]
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.policy_replay import replay_tables
from benchmarks.quota_mover import Moves
from benchmarks.quota_pools import best_quotas, pool_numbers
from benchmarks.replayed_trace import ReplayedTrace, TableKey, load_trace, write_synthetic_trace
from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.actors.arena.residency.moving_quotas import RULES, QuotaRules
from tidemill.storage.errors import StorageError


class Outcome(NamedTuple):
    """Hit rates of all tokens and of the second half; bundles of quota that moved and what moving took, a token."""

    hits: float
    late: float
    moved: float
    moving_us: float


def replay(trace: ReplayedTrace, quotas: Mapping[TableKey, int], rules: QuotaRules | None) -> Outcome:
    """`rules` None: fixed quotas."""
    policies = {table: ContextualLfu(count) for table, count in trace.tables.items()}
    moves = None if rules is None else Moves(pool_numbers(trace), rules)
    tallies = replay_tables(trace, policies, quotas, "none", moves).values()
    return Outcome(
        sum(tally.hits for tally in tallies) / max(1, sum(tally.active for tally in tallies)),
        sum(tally.late_hits for tally in tallies) / max(1, sum(tally.late_active for tally in tallies)),
        sum(tally.moved for tally in tallies) / max(1, trace.tokens),
        sum(tally.moving_ns for tally in tallies) / max(1, trace.tokens) / 1e3,
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
    parser.add_argument("--first", default=f"{RULES.first_tokens}", help="tokens before quotas move first")
    parser.add_argument("--most", default=f"{RULES.most_tokens}", help="tokens between moves at last; they double")
    parser.add_argument("--smoke", action="store_true", help="a small synthetic trace: does it run?")
    arguments = parser.parse_args()
    if arguments.trace is None and not arguments.smoke:
        parser.error("name a trace, or --smoke")
    try:
        trace = load(arguments)
    except StorageError as error:
        raise SystemExit(str(error)) from None
    rules = [
        QuotaRules(int(first), int(most)) for first in arguments.first.split(",") for most in arguments.most.split(",")
    ]
    print(f"{'cache':>6} {'quotas':<22} {'hits':>7} {'late':>7} {'moved/token':>12} {'us/token':>9}")
    for share in map(float, arguments.sizes.split(",")):
        equal = {table: int(count * share) for table, count in trace.tables.items()}
        show(share, "equal", replay(trace, equal, None))
        for rule in rules:
            show(share, f"moved after {rule.first_tokens} to {rule.most_tokens}", replay(trace, equal, rule))
        show(share, "best afterwards", replay(trace, best_quotas(trace, equal), None))


def show(share: float, name: str, of: Outcome) -> None:
    print(
        f"{share:>6.0%} {name:<22} {of.hits:>7.2%} {of.late:>7.2%} {of.moved:>12.0f} {of.moving_us:>9.0f}", flush=True
    )


if __name__ == "__main__":
    main()
