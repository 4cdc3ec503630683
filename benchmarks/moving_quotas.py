"""Quotas that move between the caches of a pool, from where the least used cached bundles are used least to where the
most used absent ones are used most. The pool's total stays as it is."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.replayed_trace import ReplayedTrace, TableKey
from tidemill.actors.arena.residency.policy import Ids

POOLS = (("qkv",), ("o", "down"), ("gate_up",), ("neuron",))  # inputs whose bundles have one size
MOVED_TABLES = 4  # of one in so many tables, at a time
Uses = npt.NDArray[np.int64]


def pools_of(trace: ReplayedTrace) -> Sequence[Sequence[TableKey]]:
    pools = [[table for table in trace.tables if table.input in names] for names in POOLS]
    return [pool for pool in pools if pool]


def best_quotas(trace: ReplayedTrace, quotas: Mapping[TableKey, int]) -> dict[TableKey, int]:
    """Quotas of the same total in each pool for the bundles that the whole trace uses most: known only afterwards."""
    popularity, best = trace.popularity(), dict[TableKey, int]()
    for pool in pools_of(trace):
        owners = np.concatenate([np.full(trace.tables[table], place) for place, table in enumerate(pool)])
        order = np.argsort(-np.concatenate([popularity[table] for table in pool]), kind="stable")
        counts = np.bincount(owners[order[: sum(quotas[table] for table in pool)]], minlength=len(pool))
        best.update(zip(pool, counts.tolist(), strict=True))
    return best


class MovingQuotas:
    """Deterministic: counts of this sequence alone, and the order of the tables among equals."""

    def __init__(self, trace: ReplayedTrace, quotas: Mapping[TableKey, int], step: float) -> None:
        """`step`: of a table's bundles, what moves at once."""
        self.quotas = dict(quotas)
        self._pools = pools_of(trace)
        self._steps = {table: max(1, int(step * count)) for table, count in trace.tables.items()}
        self._uses: dict[TableKey, Uses] = {table: np.zeros(count, np.int64) for table, count in trace.tables.items()}

    def see(self, table: TableKey, active: Ids) -> None:
        self._uses[table][active] += 1

    def move(self) -> Sequence[TableKey]:
        """The tables whose quotas have changed, losers before gainers."""
        losers, gainers = list[TableKey](), list[TableKey]()
        for pool in self._pools:
            for loser, gainer in self._pairs(pool):
                count = min(
                    self._steps[loser], self._steps[gainer], self.quotas[loser],
                    self._uses[gainer].size - self.quotas[gainer],
                )  # fmt: skip
                self.quotas[loser] -= count
                self.quotas[gainer] += count
                losers.append(loser)
                gainers.append(gainer)
        return [*losers, *gainers]

    def _pairs(self, pool: Sequence[TableKey]) -> Sequence[tuple[TableKey, TableKey]]:
        loss, gain = {}, {}
        for table in pool:
            ranked = np.sort(self._uses[table])[::-1]
            quota, step = self.quotas[table], self._steps[table]
            loss[table] = ranked[max(0, quota - step) : quota].sum() / step
            gain[table] = ranked[quota : quota + step].sum() / step
        losers = sorted(pool, key=lambda table: loss[table])[: max(1, len(pool) // MOVED_TABLES)]
        gainers = sorted(pool, key=lambda table: -gain[table])
        return [
            (loser, gainer)
            for loser, gainer in zip(losers, gainers, strict=False)
            if loser != gainer and gain[gainer] > loss[loser] and self.quotas[loser]
        ]
