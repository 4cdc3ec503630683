"""Decides what lies in the arena: loads the locked extents once, keeps the ring full in the wanted order, serves rows.

It owns the slots, their generations and every ticket. It never touches a byte of the arena: the reader writes, compute
reads, and this actor only knows which of them may.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from tidemill.actors.actor import Send
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.bundle_visits import BundleVisits
from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.arena.rows import RowDemand, plan_row_read
from tidemill.actors.arena.slots import SlotPool, SlotState, ring_pools
from tidemill.actors.arena.ticket import Ticket
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import (
    ActorName,
    BundlesRead,
    BundlesReady,
    BundlesReleased,
    BundlesUnavailable,
    CancelReads,
    DemandRows,
    Message,
    PreloadBundles,
    Read,
    ReadBundles,
    ReadFailed,
    ReadsCancelled,
    RowsReady,
    SequenceOpened,
    VisitBundles,
    VisitEnded,
    WantBundles,
)
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.ids import ExtentId, SlotId
from tidemill.storage.manifest import Manifest


class ArenaActor:
    """Residency "balanced lock + ring" (FlexInfer): see `storage.arena_plan`.

    An *epoch* is a run of laps that compute has not given up. A message of a newer epoch empties the ring first: reads
    in flight are cancelled, ready slots are taken back (compute has let go of them by then).
    """

    name = ActorName.ARENA
    wake_fds: Sequence[int] = ()
    wants_poll = False

    def __init__(self, config: ArenaConfig, manifest: Manifest, counters: Counters) -> None:
        plan = config.plan
        self._plan = plan
        self._manifest = manifest
        self._counters = counters
        self._tickets_max = config.tickets
        self._epoch = 0
        self._rings = ring_pools(plan)
        self._row_pool = SlotPool(plan.locked_slots + plan.ring_slots, plan.row_slots)
        self._pools = (*self._rings, self._row_pool)
        self._unloaded: deque[ExtentId] = deque(sorted(ExtentId(i) for i in plan.locked_extents))
        self._wanted: deque[ExtentId] = deque()
        self._in_ring: dict[SlotId, ExtentId] = {}
        self._demand: RowDemand | None = None
        self._tickets: dict[int, Ticket] = {}
        self._next_ticket = 0
        self._unavailable: list[ExtentId] = []  # locked extents that failed: tried again in the next epoch
        uses = {
            table: unpack_ids(packed, columns=manifest.tables[table].channel_count).astype(np.int64)
            for table, packed in config.popularity.items()
        }
        self.bundles = BundleStore(plan.bundles, config.residency, uses)
        self._visits = BundleVisits(self.bundles, manifest, counters, config.gate)

    def start(self) -> Sequence[Send]:
        return [*self._issue(), *self._visits.start()]

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]:
        sends: list[Send] = []
        match message:
            case WantBundles(epoch=epoch, ranges=ranges):
                sends += self._enter_epoch(epoch)
                if epoch == self._epoch:
                    self._want(ranges)
            case BundlesReleased(slots=slots):
                self._release(slots)
            case DemandRows(epoch=epoch):
                sends += self._enter_epoch(epoch)
                if epoch == self._epoch:
                    sends += self._demand_rows(message)
            case VisitBundles(epoch=epoch):
                sends += self._enter_epoch(epoch)
                sends += self._visits.visit(message, now_ns) if epoch == self._epoch else []
            case VisitEnded(request=request):
                sends += self._visits.end_visit(request, now_ns)
            case PreloadBundles(epoch=epoch):
                sends += self._visits.preload(message, now_ns) if epoch == self._epoch else []
            case SequenceOpened():
                self._visits.new_sequence()
            case BundlesRead(tickets=tickets):
                own, gathered = self._divide(tickets)
                sends += [*self._take_read(own), *self._visits.arrived(gathered, now_ns)]
            case ReadsCancelled(tickets=tickets):
                own, gathered = self._divide(tickets)
                for ticket in own:
                    self._drop(self._tickets.pop(ticket))
                sends += self._visits.cancelled(gathered, now_ns)
            case ReadFailed(ticket=ticket, what=what):
                if self._visits.owns(ticket):
                    sends += self._visits.failed(ticket, self._epoch, what, now_ns)
                else:
                    sends += self._take_failure(self._tickets.pop(ticket), what)
            case _:
                raise TypeError(f"arena has no use for {type(message).__name__}")
        return [*sends, *self._issue()]

    def poll(self, now_ns: int) -> Sequence[Send]:
        return []

    def stop(self, *, drain: bool) -> Sequence[Send]:
        self._wanted.clear()
        self._unloaded.clear()
        return []

    # --- what to read next

    def _want(self, ranges: bytes) -> None:
        for start, stop in unpack_ids(ranges, columns=2).tolist():
            self._wanted.extend(ExtentId(i) for i in range(start, stop) if not self._plan.is_locked(i))

    def _issue(self) -> list[Send]:
        """Tickets for as much as slots and the reader's bound allow, in the order in which compute will want it."""
        reads: list[Read] = []
        while len(self._tickets) < self._tickets_max:
            read = self._next_read()
            if read is None:
                break
            reads.append(read)
        return [Send(ActorName.READER, ReadBundles(tuple(reads)))] if reads else []

    def _next_read(self) -> Read | None:
        streamed = self._wanted[0] if self._wanted and self._ring_of(self._wanted[0]).free_count else None
        # While the locked part is still loading, both queues are in compute order: the lower extent is needed first.
        if self._unloaded and (streamed is None or self._unloaded[0] < streamed):
            extent = self._unloaded.popleft()
            return self._whole(extent, self._plan.locked_slot_of[extent])
        if streamed is None:
            return None
        slot = self._ring_of(streamed).take()
        self._in_ring[slot] = streamed
        return self._whole(self._wanted.popleft(), slot)

    def _ring_of(self, extent: ExtentId) -> SlotPool:
        return self._rings[self._manifest.extents[extent].plane]

    def _pool_of(self, slot: SlotId) -> SlotPool | None:
        """None for a slot of a locked extent."""
        return next((pool for pool in self._pools if slot in pool), None)

    def _whole(self, extent: ExtentId, slot: SlotId) -> Read:
        stored_bytes = self._manifest.extents[extent].stored_bytes
        return self._ticket(extent, slot, start=0, stored_bytes=stored_bytes, place=-1)

    def _ticket(self, extent: ExtentId, slot: SlotId, *, start: int, stored_bytes: int, place: int) -> Read:
        ticket = self._next_ticket
        self._next_ticket = (ticket + 1) & 0xFFFFFFFF  # tickets travel as u32
        self._tickets[ticket] = Ticket(extent, slot, place)
        return Read(ticket, extent, start, stored_bytes, self._plan.offset_of(slot), place >= 0)

    # --- answers of the reader

    def _divide(self, packed: bytes) -> tuple[list[int], list[int]]:
        """Tickets of extents and rows, and those of single bundles."""
        tickets: list[int] = unpack_ids(packed).tolist()
        return [t for t in tickets if not self._visits.owns(t)], [t for t in tickets if self._visits.owns(t)]

    def _take_read(self, tickets: Iterable[int]) -> list[Send]:
        placed: list[tuple[int, int, int]] = []
        sends: list[Send] = []
        for number in tickets:
            ticket = self._tickets.pop(number)
            pool = self._pool_of(ticket.slot)
            if pool is self._row_pool:
                sends += self._take_row(ticket)
            elif pool is not None:
                if pool.state_of(ticket.slot) is SlotState.DOOMED:
                    self._drop(ticket)
                    continue
                pool.set_ready(ticket.slot)
                self._counters[Counter.STREAMED_BYTES] += self._manifest.extents[ticket.extent].bytes
                placed.append((ticket.extent, ticket.slot, pool.generation_of(ticket.slot)))
            else:
                self._counters[Counter.LOCKED_BYTES_LOADED] += self._manifest.extents[ticket.extent].bytes
                placed.append((ticket.extent, ticket.slot, 0))
        if placed:
            sends.append(Send(ActorName.COMPUTE, BundlesReady(self._epoch, pack_ids(placed))))
        return sends

    def _take_row(self, ticket: Ticket) -> list[Send]:
        demand = self._demand
        if self._row_pool.state_of(ticket.slot) is SlotState.DOOMED or demand is None:
            self._row_pool.give_back(ticket.slot)
            return []
        self._row_pool.set_ready(ticket.slot)
        demand.arrived(ticket.place, self._row_pool.generation_of(ticket.slot))
        if not demand.complete:
            return []
        self._demand = None
        return [Send(ActorName.COMPUTE, RowsReady(demand.request, self._epoch, pack_ids(demand.placed())))]

    def _take_failure(self, ticket: Ticket, what: str) -> list[Send]:
        pool = self._pool_of(ticket.slot)
        if pool is not None:
            wanted = pool.state_of(ticket.slot) is not SlotState.DOOMED
            self._drop(ticket)
        else:
            wanted = True
            self._unavailable.append(ticket.extent)
        return [Send(ActorName.COMPUTE, BundlesUnavailable(self._epoch, what))] if wanted else []

    def _drop(self, ticket: Ticket) -> None:
        """A ticket whose bytes are not wanted: its slot is free again; a locked extent is loaded later."""
        pool = self._pool_of(ticket.slot)
        if pool is None:
            self._unloaded.appendleft(ticket.extent)
            return
        if self._in_ring.pop(ticket.slot, None) is not None:
            self._counters[Counter.DROPPED_BYTES] += self._manifest.extents[ticket.extent].bytes
        pool.give_back(ticket.slot)

    # --- compute's side

    def _release(self, packed: bytes) -> None:
        for slot, generation in unpack_ids(packed, columns=2).tolist():
            pool = self._pool_of(slot)
            if pool is not None and pool.release(slot, generation):
                self._in_ring.pop(SlotId(slot), None)

    def _demand_rows(self, message: DemandRows) -> list[Send]:
        bundles = unpack_ids(message.bundles).tolist()
        if self._demand is not None or len(bundles) > self._row_pool.free_count:
            raise RuntimeError(
                f"compute demanded {len(bundles)} rows with {self._row_pool.free_count} of {self._plan.row_slots} row "
                "slots free: rows of the demand before were not released"
            )
        self._demand = RowDemand(message.request, len(bundles))
        reads = []
        for place, bundle in enumerate(bundles):
            row = plan_row_read(self._manifest, message.table, bundle)
            slot = self._row_pool.take()
            self._demand.expect(place, slot, row.offset_in_slot)
            self._counters[Counter.ROW_BYTES] += row.stored_bytes
            reads.append(self._ticket(row.extent, slot, start=row.start, stored_bytes=row.stored_bytes, place=place))
        return [Send(ActorName.READER, ReadBundles(tuple(reads)))]

    def _enter_epoch(self, epoch: int) -> list[Send]:
        """Forget everything of the epochs before; a no-op for the present epoch and for messages that come late."""
        if epoch <= self._epoch:
            return []
        self._epoch = epoch
        self._wanted.clear()
        self._demand = None
        for pool in self._pools:
            for slot in pool.slots_in(SlotState.READY):
                extent = self._in_ring.pop(slot, None)
                if extent is not None:
                    self._counters[Counter.DROPPED_BYTES] += self._manifest.extents[extent].bytes
                pool.give_back(slot)
            for slot in pool.slots_in(SlotState.READING):
                pool.doom(slot)
        self._unloaded.extend(sorted(self._unavailable))
        self._unavailable.clear()
        doomed = [number for number, ticket in self._tickets.items() if self._is_doomed(ticket)]
        given_up = self._visits.abandon()
        return [*given_up, Send(ActorName.READER, CancelReads(pack_ids(doomed)))] if doomed else given_up

    def _is_doomed(self, ticket: Ticket) -> bool:
        pool = self._pool_of(ticket.slot)
        return pool is not None and pool.state_of(ticket.slot) is SlotState.DOOMED

    def validate(self) -> None:
        """Check the actor's own invariants; raises AssertionError. Tests call it after every message."""
        self._visits.validate()
        for pool in self._pools:
            pool.validate()
            reading = {*pool.slots_in(SlotState.READING), *pool.slots_in(SlotState.DOOMED)}
            out = [ticket.slot for ticket in self._tickets.values() if ticket.slot in pool]
            assert len(out) == len(set(out)), "two tickets write to one slot"
            assert set(out) == reading, "slots being read and tickets disagree"
        occupied = set(self._in_ring)
        free = {slot for ring in self._rings for slot in ring.slots_in(SlotState.FREE)}
        assert not occupied & free, "an extent is recorded in a free slot"
        assert len(self._tickets) <= self._tickets_max + self._plan.row_slots, "more tickets than the links can answer"
        assert self._plan.locked_slot_of.keys().isdisjoint(self._wanted), "a locked extent is wanted in the ring"
