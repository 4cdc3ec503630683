"""The tables whose bundles come one by one: which lie in slots, which are on their way, who waits for them.

Residency of each layer's part of a table is `residency/`'s; this knows pools, tickets and the one visit under way. It
sends nothing itself: what to send is in its answers.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tidemill.actors.arena.bundle_reads import Failure, Gather, Placed, SpeculatedBytes, VisitReads
from tidemill.actors.arena.cached_layers import COUNTS, CachedLayers, Uses
from tidemill.actors.arena.open_visit import OpenVisit
from tidemill.actors.arena.pool_slots import PoolSlots
from tidemill.actors.arena.quota_moves import QuotaMoves
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.arena.residency.outcomes import ResidencyCounts, Slots
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.storage.bundle_plan import BundlePlan

TICKET_BUNDLES = 4096
FIRST_TICKET = 1 << 31  # tickets travel as u32; those below are the arena's own
NO_BUNDLES: Ids = np.empty(0, np.uint32)


class BundleStore:
    """At most one visit is under way. Speculation never takes the slots that a visit may need: of each pool's slots
    beyond the quotas, `reserve` (the bundles of its largest layer) are kept back.

    A table of a layer group is read once: what a visit misses is read for the later layers of the group too, beside
    which it lies, and stays staged until their own visits.
    """

    def __init__(self, plan: BundlePlan, choice: ResidencyChoice, popularity: Mapping[int, Uses] | None = None) -> None:
        """`popularity`: of each table, how often other text used the channels of its layers; hot sets need it."""
        uses = popularity or {}
        self._tables = {cached.table: CachedLayers(cached, choice, uses.get(cached.table)) for cached in plan.tables}
        self._pools = [
            PoolSlots(
                pool.slots,
                reserve=max(cached.channels for cached in plan.tables if cached.pool == i),
                quotas=sum(sum(cached.quotas) for cached in plan.tables if cached.pool == i),
            )
            for i, pool in enumerate(plan.pools)
        ]
        self.quota_moves = QuotaMoves(self._tables.values(), self._pools, choice.quotas)
        self._slot_bytes = [pool.slot_bytes for pool in plan.pools]
        self._outstanding: dict[int, Gather] = {}
        self._early: set[int] = set()  # of these tickets: those that no visit has asked for
        self._next_ticket = FIRST_TICKET
        self._visit: OpenVisit | None = None
        self._staged: dict[tuple[int, int], int] = {}  # (table, place) -> speculated slots, until its visit ends
        self._given_up: dict[int, int] = {}  # ticket that was cancelled for a visit -> bytes nobody waits for
        self._counts = np.zeros(COUNTS, np.int64)
        self._useful_bytes = self._wasted_bytes = self._cancelled_bytes = 0
        self.speculated_in_flight_bytes = 0

    def load_initial(self) -> list[Gather]:
        """What policies want cached before the first visit: locked layers and hot sets."""
        return [gather for table in self._tables.values() for gather in self._load_table(table)]

    def _load_table(self, table: CachedLayers) -> list[Gather]:
        """Layers of a group together: their bundles lie next to each other."""
        pool = self._pools[table.pool]
        wanted = [table.bundles_of(part.initial(), place) for place, part in enumerate(table.parts)]
        bundles = np.sort(np.concatenate(wanted))
        slots = pool.stack.take(bundles.size)
        for _, part, mine, channels in table.split(bundles):
            part.place(channels, slots[mine])
        return self._gathers(table, bundles, slots, demand=False)

    # --- compute's side

    def may_visit(self, table_id: int, place: int, bundles: Ids) -> bool:
        """Whether there are slots for it now."""
        table, pool = self._tables[table_id], self._pools[self._tables[table_id].pool]
        part, channels = table.parts[place], bundles // np.uint32(table.layers)
        return not pool.is_short or part.absent(channels).size <= pool.stack.free_count

    def visit(self, request: int, table_id: int, place: int, bundles: Ids, *, learns: bool) -> VisitReads:
        """Begin a visit, which `may_visit`. `placed` says when all of it is there."""
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
            part.stage(found.missing, pool.stack.take(found.missing.size))
            slots = part.slots_of(channels)
            wanted = np.concatenate((table.bundles_of(found.missing, place), self._beside(table, place, found.missing)))
            wanted.sort()
            gathers += self._gathers(table, wanted, self._slots_of(table, wanted), demand=True)
        waits_for = pool.tickets_of(slots)
        self._visit = OpenVisit(request, table, place, slots, waits_for, learns)
        early = [self._outstanding[ticket] for ticket in self._early if self._outstanding[ticket].table == table_id]
        promoted = [self._promote(gather) for gather in early if gather.ticket in waits_for]
        idle = [gather for gather in early if gather.ticket not in waits_for]
        return VisitReads(gathers, promoted, [g.ticket for g in idle if self._give_up(g, table, place)])

    @property
    def placed(self) -> Placed | None:
        """The visit under way, once nothing of it is missing."""
        return None if (v := self._visit) is None or v.waits_for else Placed(v.request, v.slots)

    def end_visit(self, request: int) -> None:
        visit = self._visit
        if visit is None or visit.request != request:
            return  # of a step that was given up
        self._visit = None
        table, pool = visit.table, self._pools[visit.table.pool]
        pool.free(table.parts[visit.place].settle().freed)
        self._take_counts(table, visit.place)
        pool.speculation_left += self._staged.pop((table.id, visit.place), 0)
        if visit.learns:
            self.quota_moves.settled(table.id, visit.place)

    def _take_counts(self, table: CachedLayers, place: int) -> None:
        new = table.take_counts(place)
        self._counts += new
        self._useful_bytes += int(new[3]) * self._slot_bytes[table.pool]
        self._wasted_bytes += int(new[8]) * self._slot_bytes[table.pool]

    def _beside(self, table: CachedLayers, place: int, missing: Ids) -> Ids:
        """Stage those of `missing` that later layers of the group lack, the next layer's first, as far as there is
        room."""
        pool = self._pools[table.pool]
        found = [NO_BUNDLES]
        for later in range(place + 1, table.layers):
            part = table.parts[later]
            channels = part.absent(missing)[: self._room(pool)]
            if channels.size:
                self._stage(table, later, channels, pool.stack.take(channels.size))
                found.append(table.bundles_of(channels, later))
        return np.concatenate(found)

    def _promote(self, gather: Gather) -> int:
        self._early.remove(gather.ticket)
        self.speculated_in_flight_bytes -= self._bytes_of(gather)
        return gather.ticket

    def _give_up(self, gather: Gather, table: CachedLayers, place: int) -> bool:
        """Whether nobody waits for anything of a speculative read any more, now that the visit has begun."""
        if int((gather.bundles % np.uint32(table.layers)).max()) > place:
            return False
        for _, part, mine, channels in table.split(gather.bundles):
            idle = part.is_idle(channels) & (part.slots_of(channels) == gather.slots[mine])
            self._pools[table.pool].free(part.unstage(channels[idle]))
        self._given_up[gather.ticket] = self._bytes_of(gather)
        return True

    # --- the predictor's side

    def preload(self, table_id: int, bundles: Ids, most: int) -> tuple[list[Gather], Ids]:
        """Read what is absent, as far as there are slots to spare: the first bundles of the list, `most` at most.
        The rest of it is what more than `most` would have brought."""
        table = self._tables[table_id]
        pool = self._pools[table.pool]
        absent = np.zeros(bundles.size, np.bool_)
        for place, part, mine, channels in table.split(bundles):
            if self._visit is None or self._visit.table is not table or self._visit.place != place:
                absent[mine] = part.slots_of(channels) < 0
        wanted = bundles[absent]
        taken = wanted[: min(most, self._room(pool))]
        if not taken.size:
            return [], NO_BUNDLES
        slots = pool.stack.take(taken.size)
        for place, _, mine, channels in table.split(taken):
            self._stage(table, place, channels, slots[mine])
        gathers = self._gathers(table, taken, slots, demand=False)
        self._early.update(gather.ticket for gather in gathers)
        self.speculated_in_flight_bytes += taken.size * self._slot_bytes[table.pool]
        return gathers, wanted[most:] if taken.size == most else NO_BUNDLES

    def bundle_bytes(self, table_id: int) -> int:
        return self._slot_bytes[self._tables[table_id].pool]

    def layers_of(self, table_id: int) -> int:
        return self._tables[table_id].layers

    def _room(self, pool: PoolSlots) -> int:
        return min(pool.speculation_left, pool.stack.free_count)

    def _stage(self, table: CachedLayers, place: int, channels: Ids, slots: Slots) -> None:
        table.parts[place].stage(channels, slots)
        self._pools[table.pool].speculation_left -= channels.size
        self._staged[table.id, place] = self._staged.get((table.id, place), 0) + channels.size

    # --- the reader's side

    def owns(self, ticket: int) -> bool:
        return ticket in self._outstanding

    def arrived(self, ticket: int) -> None:
        gather = self._close(ticket)
        self._wasted_bytes += self._given_up.pop(ticket, 0)
        self._pools[self._tables[gather.table].pool].arrived(gather.slots)
        if self._visit is not None:
            self._visit.waits_for.discard(ticket)

    def failed(self, ticket: int) -> Failure:
        """The read of a ticket failed or was cancelled: what it was for is absent again, but for what the visit under
        way waits for."""
        gather = self._close(ticket)
        self._cancelled_bytes += self._given_up.pop(ticket, 0)
        table, visit = self._tables[gather.table], self._visit
        pool = self._pools[table.pool]
        pool.arrived(gather.slots)
        waits = visit is not None and ticket in visit.waits_for
        wanted = np.isin(gather.slots, visit.slots if visit is not None and waits else ())
        for _, part, mine, channels in table.split(gather.bundles):
            lost = ~wanted[mine] & (part.slots_of(channels) == gather.slots[mine])
            if lost.any():
                pool.free(part.drop(channels[lost]))
        if visit is None or not waits:
            return Failure(is_final=False, gathers=())
        visit.waits_for.discard(ticket)
        if wanted.all():
            return Failure(is_final=True, gathers=())
        again = self._gathers(table, gather.bundles[wanted], gather.slots[wanted], demand=True)
        visit.waits_for.update(gather.ticket for gather in again)
        return Failure(is_final=False, gathers=again)

    # --- both

    def new_sequence(self) -> None:
        for part in self._parts():
            part.new_sequence()
        self.quota_moves.new_sequence()

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

    def counts_of(self, table: int) -> Sequence[ResidencyCounts]:
        """Of each layer of a table."""
        return [part.counts for part in self._tables[table].parts]

    @property
    def speculated(self) -> SpeculatedBytes:
        return SpeculatedBytes(self._useful_bytes, self._wasted_bytes, self._cancelled_bytes)

    def validate(self) -> None:
        """Raises AssertionError when pools and residencies disagree. Tests call it after every message."""
        for part in self._parts():
            part.validate()
        for number, pool in enumerate(self._pools):
            pool.stack.validate()
            parts = (part for table in self._tables.values() if table.pool == number for part in table.parts)
            assert sum(part.quota for part in parts) == pool.quotas, "quotas were made or lost"
        in_flight = sum(self._bytes_of(gather) for ticket, gather in self._outstanding.items() if ticket in self._early)
        assert in_flight == self.speculated_in_flight_bytes, "speculation in flight is miscounted"

    def _parts(self) -> Iterable[TableResidency]:
        return (part for table in self._tables.values() for part in table.parts)

    def _slots_of(self, table: CachedLayers, bundles: Ids) -> Slots:
        slots = np.empty(bundles.size, np.int32)
        for _, part, mine, channels in table.split(bundles):
            slots[mine] = part.slots_of(channels)
        return slots

    def _bytes_of(self, gather: Gather) -> int:
        return gather.bundles.size * self._slot_bytes[self._tables[gather.table].pool]

    def _close(self, ticket: int) -> Gather:
        gather = self._outstanding.pop(ticket)
        if ticket in self._early:
            self._early.remove(ticket)
            self.speculated_in_flight_bytes -= self._bytes_of(gather)
        return gather

    def _gathers(self, table: CachedLayers, bundles: Ids, slots: Slots, *, demand: bool) -> list[Gather]:
        """In tickets that links hold many of."""
        return [
            self._gather(table, bundles[i : i + TICKET_BUNDLES], slots[i : i + TICKET_BUNDLES], demand=demand)
            for i in range(0, bundles.size, TICKET_BUNDLES)
        ]

    def _gather(self, table: CachedLayers, bundles: Ids, slots: Slots, *, demand: bool) -> Gather:
        ticket = self._next_ticket
        self._next_ticket = FIRST_TICKET + (ticket + 1 - FIRST_TICKET) % FIRST_TICKET
        self._pools[table.pool].ticket_of[slots] = ticket
        gather = self._outstanding[ticket] = Gather(ticket, table.id, bundles, slots, demand)
        return gather
