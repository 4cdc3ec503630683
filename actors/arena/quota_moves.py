"""Between the bundle store and quotas that move: which cache is which, and whose slots come free."""

from collections.abc import Iterable, Sequence

from tidemill.actors.arena.cached_layers import CachedLayers
from tidemill.actors.arena.pool_slots import PoolSlots
from tidemill.actors.arena.residency.choose_policy import QuotaKind
from tidemill.actors.arena.residency.moving_quotas import RULES, MovingQuotas


class QuotaMoves:
    """Of all layers of a store's tables. No byte moves: what a cache gives up are slots of the pool, for others."""

    def __init__(self, tables: Iterable[CachedLayers], pools: Sequence[PoolSlots], kind: QuotaKind) -> None:
        """`fixed` ones never move."""
        places = [(table, place) for table in tables for place in range(table.layers)]
        self._number = {(table.id, place): number for number, (table, place) in enumerate(places)}
        self._pool_of = [pools[table.pool] for table, _ in places]
        parts = [table.parts[place] for table, place in places]
        self._moving = MovingQuotas(parts, [table.pool for table, _ in places], RULES) if kind == "adaptive" else None

    @property
    def moved_bundles(self) -> int:
        return 0 if self._moving is None else self._moving.moved_bundles

    def settled(self, table: int, place: int) -> None:
        """After each visit that taught its policy."""
        if self._moving is not None:
            for move in self._moving.settled(self._number[table, place]):
                self._pool_of[move.part].free(move.freed)

    def new_sequence(self) -> None:
        if self._moving is not None:
            self._moving.new_sequence()
