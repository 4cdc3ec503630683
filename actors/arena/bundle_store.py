"""The tables whose bundles come one by one: which lie in slots, which are on their way, who waits for them.

Residency of each layer's part of a table is `residency/`'s; this knows pools, tickets and the one visit under way. It
sends nothing itself: what to send is in its answers.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, choose_policy
from tidemill.actors.arena.residency.hot_set import HotSet
from tidemill.actors.arena.residency.outcomes import ResidencyCounts, Slots
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.slot_stack import SlotStack
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.storage.bundle_plan import BundlePlan, CachedTable

NO_TICKET = -1
TICKET_BUNDLES = 4096
NO_COUNTS = ResidencyCounts(0, 0, 0, 0, 0, 0, 0, 0, 0)
FIRST_TICKET = 1 << 31  # tickets travel as u32; those below are the arena's own


class Gather(NamedTuple):
    """Bundles to be read into slots of their table's pool."""

    ticket: int
    table: int
    bundles: Ids
    slots: Slots
    demand: bool


class Placed(NamedTuple):
    """Every bundle of the visit lies in its slot."""

    request: int
    slots: Slots


class _Pool:
    """Slots of one size. A slot that is given up while a read into it is under way comes back when that is answered."""

    def __init__(self, slots: int, reserve: int, quotas: int) -> None:
        self.stack = SlotStack(0, slots)
        self.speculation_left = max(0, slots - quotas - reserve)
        self.ticket_of = np.full(slots, NO_TICKET, np.int64)
        self._given_up = np.zeros(slots, np.bool_)

    def free(self, slots: Slots) -> None:
        reading = self.ticket_of[slots] != NO_TICKET
        self._given_up[slots[reading]] = True
        self.stack.give_back(slots[~reading])

    def arrived(self, slots: Slots) -> None:
        self.ticket_of[slots] = NO_TICKET
        given_up = slots[self._given_up[slots]]
        self._given_up[given_up] = False
        self.stack.give_back(given_up)


class _Table:
    """One table: a residency for each of its layers."""

    def __init__(self, cached: CachedTable, choice: ResidencyChoice) -> None:
        self.id = cached.table
        self.pool = cached.pool
        self.layers = len(cached.quotas)
        self.parts = [_residency(choice, cached.channels, quota) for quota in cached.quotas]
        self.counts = np.zeros((self.layers, len(_fields(NO_COUNTS))), np.int64)  # as they were last added up


def _residency(choice: ResidencyChoice, channels: int, quota: int) -> TableResidency:
    if quota >= channels:  # locked: nothing is ever evicted, so ranks don't matter
        return TableResidency(HotSet(np.zeros(channels, np.int64)), channels, quota)
    return TableResidency(choose_policy(choice, channels), channels, quota)


class _Visit(NamedTuple):
    request: int
    table: _Table
    place: int
    slots: Slots
    waits_for: set[int]  # tickets


class BundleStore:
    """At most one visit is under way. Speculation never takes the slots that a visit may need: of each pool's slots
    beyond the quotas, `reserve` (the bundles of its largest layer) are kept back."""

    def __init__(self, plan: BundlePlan, choice: ResidencyChoice) -> None:
        tables = [_Table(cached, choice) for cached in plan.tables]
        self._tables = {table.id: table for table in tables}
        self._pools = [
            _Pool(
                pool.slots,
                reserve=max(cached.channels for cached in plan.tables if cached.pool == i),
                quotas=sum(sum(cached.quotas) for cached in plan.tables if cached.pool == i),
            )
            for i, pool in enumerate(plan.pools)
        ]
        self._outstanding: dict[int, Gather] = {}
        self._next_ticket = FIRST_TICKET
        self._visit: _Visit | None = None
        self._staged: dict[tuple[int, int], int] = {}  # (table, place) -> speculated slots, until its visit ends
        self._counts = np.zeros(len(_fields(NO_COUNTS)), np.int64)

    def load_initial(self) -> list[Gather]:
        """What policies want cached before the first visit: locked layers and hot sets."""
        return [gather for table in self._tables.values() for gather in self._load_table(table)]

    def _load_table(self, table: _Table) -> list[Gather]:
        """Layers of a group together: their bundles lie next to each other."""
        pool, layers = self._pools[table.pool], np.uint32(table.layers)
        wanted = [part.initial() * layers + np.uint32(place) for place, part in enumerate(table.parts)]
        bundles = np.sort(np.concatenate(wanted))
        slots = pool.stack.take(bundles.size)
        for place, part in enumerate(table.parts):
            mine = bundles % layers == place
            part.place(bundles[mine] // layers, slots[mine])
        return self._gathers(table, pool, bundles, slots, demand=False)

    # --- compute's side

    def visit(self, request: int, table_id: int, place: int, bundles: Ids, *, learns: bool) -> list[Gather]:
        """Begin a visit; returns what must be read for it. `placed` says when all of it is there."""
        if self._visit is not None:
            raise RuntimeError(f"visit {request} began before visit {self._visit.request} ended")
        table = self._tables[table_id]
        pool, part = self._pools[table.pool], table.parts[place]
        channels = bundles // np.uint32(table.layers)
        found = part.visit(channels, learns=learns)
        self._take_counts(table, place)
        gathers: list[Gather] = []
        slots = found.slots
        if found.missing.size:
            taken = pool.stack.take(found.missing.size)
            part.stage(found.missing, taken)
            slots = part.slots_of(channels)
            missing = found.missing * np.uint32(table.layers) + np.uint32(place)
            gathers += self._gathers(table, pool, missing, taken, demand=True)
        waits_for = {int(ticket) for ticket in np.unique(pool.ticket_of[slots])} - {NO_TICKET}
        self._visit = _Visit(request, table, place, slots, waits_for)
        return gathers

    @property
    def placed(self) -> Placed | None:
        """The visit under way, once nothing of it is missing."""
        visit = self._visit
        return None if visit is None or visit.waits_for else Placed(visit.request, visit.slots)

    def end_visit(self, request: int) -> None:
        visit = self._visit
        if visit is None or visit.request != request:
            return  # of a step that was given up
        self._visit = None
        pool, part = self._pools[visit.table.pool], visit.table.parts[visit.place]
        pool.free(part.settle().freed)
        self._take_counts(visit.table, visit.place)
        pool.speculation_left += self._staged.pop((visit.table.id, visit.place), 0)

    # --- the predictor's side

    def preload(self, table_id: int, bundles: Ids) -> list[Gather]:
        """Read what is absent, as far as there are slots to spare: the first bundles of the list."""
        table = self._tables[table_id]
        pool = self._pools[table.pool]
        layers = np.uint32(table.layers)
        channels, places = bundles // layers, bundles % layers
        absent = np.zeros(bundles.size, np.bool_)
        for place, part in enumerate(table.parts):
            if self._visit is not None and self._visit.table is table and self._visit.place == place:
                continue
            mine = places == place
            absent[mine] = part.slots_of(channels[mine]) < 0
        wanted = bundles[absent][: min(pool.speculation_left, pool.stack.free_count)]
        if not wanted.size:
            return []
        slots = pool.stack.take(wanted.size)
        pool.speculation_left -= wanted.size
        for place, part in enumerate(table.parts):
            mine = wanted % layers == place
            count = int(np.count_nonzero(mine))
            if count:
                part.stage(wanted[mine] // layers, slots[mine])
                self._staged[table.id, place] = self._staged.get((table.id, place), 0) + count
        return self._gathers(table, pool, wanted, slots, demand=False)

    # --- the reader's side

    def owns(self, ticket: int) -> bool:
        return ticket in self._outstanding

    def arrived(self, ticket: int) -> None:
        gather = self._outstanding.pop(ticket)
        self._pools[self._tables[gather.table].pool].arrived(gather.slots)
        if self._visit is not None:
            self._visit.waits_for.discard(ticket)

    def failed(self, ticket: int) -> bool:
        """The read of a ticket failed or was cancelled: what it was for is absent again. True when the visit under way
        waits for it, which then never is placed and has to be abandoned."""
        gather = self._outstanding.pop(ticket)
        table = self._tables[gather.table]
        pool = self._pools[table.pool]
        pool.arrived(gather.slots)
        if self._visit is not None and ticket in self._visit.waits_for:
            return True
        channels, places = gather.bundles // np.uint32(table.layers), gather.bundles % np.uint32(table.layers)
        for place, part in enumerate(table.parts):
            mine = places == place
            lost = mine & (part.slots_of(channels) == gather.slots)
            if lost.any():
                part.drop(channels[lost])
                pool.free(gather.slots[lost])
        return False

    # --- both

    def new_sequence(self) -> None:
        for part in self._parts():
            part.new_sequence()

    def abandon(self) -> list[int]:
        """Give up the visit and all speculation; returns the tickets that are still out, to be cancelled."""
        self._visit = None
        for table in self._tables.values():
            for place, part in enumerate(table.parts):
                pool = self._pools[table.pool]
                pool.free(part.abandon())
                pool.speculation_left += self._staged.pop((table.id, place), 0)
        return list(self._outstanding)

    @property
    def counts(self) -> ResidencyCounts:
        """Summed over tables and layers, hits and misses of the visit under way with them."""
        return ResidencyCounts(*(int(count) for count in self._counts))

    def validate(self) -> None:
        """Raises AssertionError when pools and residencies disagree. Tests call it after every message."""
        for part in self._parts():
            part.validate()
        for pool in self._pools:
            pool.stack.validate()

    def _take_counts(self, table: _Table, place: int) -> None:
        known, now = table.counts[place], np.array(_fields(table.parts[place].counts))
        self._counts += now - known
        known[:] = now

    def _parts(self) -> Iterable[TableResidency]:
        return (part for table in self._tables.values() for part in table.parts)

    def _gathers(self, table: _Table, pool: _Pool, bundles: Ids, slots: Slots, *, demand: bool) -> list[Gather]:
        """In tickets that links hold many of."""
        return [
            self._gather(table, pool, bundles[i : i + TICKET_BUNDLES], slots[i : i + TICKET_BUNDLES], demand=demand)
            for i in range(0, bundles.size, TICKET_BUNDLES)
        ]

    def _gather(self, table: _Table, pool: _Pool, bundles: Ids, slots: Slots, *, demand: bool) -> Gather:
        ticket = self._next_ticket
        self._next_ticket = FIRST_TICKET + (ticket + 1 - FIRST_TICKET) % FIRST_TICKET
        pool.ticket_of[slots] = ticket
        gather = self._outstanding[ticket] = Gather(ticket, table.id, bundles, slots, demand)
        return gather


def _fields(counts: ResidencyCounts) -> Sequence[int]:
    return (
        counts.visits, counts.active, counts.hits, counts.preload_hits, counts.missed, counts.admitted,
        counts.evicted, counts.refused, counts.wasted,
    )  # fmt: skip
