"""Which caches of a trace may give quota to one another, and which fixed quotas would have been best."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.replayed_trace import ReplayedTrace, TableKey

POOLS = (("qkv",), ("o", "down"), ("gate_up",), ("neuron",))  # inputs whose bundles have one size


def pools_of(trace: ReplayedTrace) -> Sequence[Sequence[TableKey]]:
    pools = [[table for table in trace.tables if table.input in names] for names in POOLS]
    return [pool for pool in pools if pool]


def pool_numbers(trace: ReplayedTrace) -> dict[TableKey, int]:
    """As an arena has them whose bundles of different inputs have different sizes."""
    return {table: number for number, pool in enumerate(pools_of(trace)) for table in pool}


def best_quotas(trace: ReplayedTrace, quotas: Mapping[TableKey, int]) -> dict[TableKey, int]:
    """Quotas of the same total in each pool for the bundles that the whole trace uses most: known only afterwards."""
    popularity, best = trace.popularity(), dict[TableKey, int]()
    for pool in pools_of(trace):
        owners = np.concatenate([np.full(trace.tables[table], place) for place, table in enumerate(pool)])
        order = np.argsort(-np.concatenate([popularity[table] for table in pool]), kind="stable")
        counts = np.bincount(owners[order[: sum(quotas[table] for table in pool)]], minlength=len(pool))
        best.update(zip(pool, counts.tolist(), strict=True))
    return best
