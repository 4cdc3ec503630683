"""Moves quotas in a replay, by the arena's own rule."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.replayed_trace import TableKey
from benchmarks.table_replay import TableReplay
from tidemill.actors.arena.residency.moving_quotas import MovingQuotas, QuotaRules


class Moves(NamedTuple):
    """`pools`: the number of each table's pool; quotas move within one."""

    pools: Mapping[TableKey, int]
    rules: QuotaRules


class QuotaMover:
    def __init__(self, replays: Mapping[TableKey, TableReplay], moves: Moves) -> None:
        self._replays = list(replays.values())
        self._places = {key: place for place, key in enumerate(replays)}
        parts = [replay.residency for replay in self._replays]
        self._moving = MovingQuotas(parts, [moves.pools[key] for key in replays], moves.rules)

    def visited(self, key: TableKey) -> None:
        """After each visit; what moving takes is counted as the table's, where anything moved."""
        place = self._places[key]
        before = self._moving.moved_bundles
        begun = time.perf_counter_ns()
        moves = self._moving.settled(place)
        for move in moves:
            self._replays[move.part].give_up(move.freed)
        tally = self._replays[place].tally
        if moves:
            tally.moving_ns += time.perf_counter_ns() - begun
            tally.moved += self._moving.moved_bundles - before
