"""One table of a replay, played as the arena plays it."""

import time
from dataclasses import dataclass

import numpy as np

from tidemill.actors.arena.residency.outcomes import Slots
from tidemill.actors.arena.residency.policy import Ids, ResidencyPolicy
from tidemill.actors.arena.residency.slot_stack import SlotStack
from tidemill.actors.arena.residency.table_residency import TableResidency


@dataclass
class Tally:
    """Sums over the visits of one replay."""

    active: int = 0
    hits: int = 0
    preload_hits: int = 0
    wasted: int = 0
    evicted: int = 0
    admitted: int = 0
    late_active: int = 0
    late_hits: int = 0
    busy_ns: int = 0
    moved: int = 0  # bundles of quota, at ends of tokens
    moving_ns: int = 0

    def add_hits(self, active: int, hits: int, *, late: bool) -> None:
        self.active += active
        self.hits += hits
        if late:
            self.late_active += active
            self.late_hits += hits


class TableReplay:
    """Its pool holds two visits' bundles beside the cached ones."""

    def __init__(self, policy: ResidencyPolicy, bundle_count: int, quota: int) -> None:
        self.residency = TableResidency(policy, bundle_count, quota)
        self._pool = SlotStack(0, 3 * bundle_count)
        initial = self.residency.initial()
        self.residency.place(initial, self._pool.take(initial.size))
        self._all = np.arange(bundle_count, dtype=np.uint32)
        self.tally = Tally()

    def read_prompt(self) -> None:
        """A prompt uses every bundle and teaches the policy nothing, but what it loads may fill the cache."""
        missing = self.residency.visit(self._all, learns=False).missing
        self.residency.stage(missing, self._pool.take(missing.size))
        self._pool.give_back(self.residency.settle().freed)

    def visit(self, active: Ids, guess: Ids | None, *, late: bool) -> None:
        """`guess`: what was expected to be active; the absent ones of it are preloaded."""
        table, pool = self.residency, self._pool
        before = table.counts.hits
        begun = time.thread_time_ns()
        if guess is not None:
            absent = table.absent(guess)
            table.stage(absent, pool.take(absent.size))
        missing = table.visit(active).missing
        table.stage(missing, pool.take(missing.size))
        pool.give_back(table.settle().freed)
        self.tally.busy_ns += time.thread_time_ns() - begun
        self.tally.add_hits(active.size, table.counts.hits - before, late=late)

    def give_up(self, slots: Slots) -> None:
        """What a quota that moved away freed."""
        self._pool.give_back(slots)

    def close(self) -> Tally:
        self.residency.validate()
        counts, tally = self.residency.counts, self.tally
        tally.preload_hits, tally.wasted = counts.preload_hits, counts.wasted
        tally.evicted, tally.admitted = counts.evicted, counts.admitted
        return tally
