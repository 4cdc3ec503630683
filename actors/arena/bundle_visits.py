"""Between the arena's messages and its bundle store: visits and preloads in, reads and placements out."""

from collections.abc import Iterable

from tidemill.actors.actor import Send
from tidemill.actors.arena.bundle_store import BundleStore, Gather
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import (
    ActorName,
    BundlesPlaced,
    BundlesUnavailable,
    CancelReads,
    GatherBundles,
    PreloadBundles,
    VisitBundles,
)
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.manifest import Manifest


class BundleVisits:
    """Every answer is a list of what to send now."""

    def __init__(self, store: BundleStore, manifest: Manifest, counters: Counters) -> None:
        self._store = store
        self._manifest = manifest
        self._counters = counters

    def start(self) -> list[Send]:
        return self._read(self._store.load_initial())

    def visit(self, message: VisitBundles) -> list[Send]:
        place = message.layer - self._manifest.tables[message.table].layer
        bundles = unpack_ids(message.bundles)
        gathers = self._store.visit(message.request, message.table, place, bundles, learns=message.learns)
        self._count()
        return [*self._read(gathers), *self._place()]

    def end_visit(self, request: int) -> list[Send]:
        self._store.end_visit(request)
        self._count()
        return []

    def preload(self, message: PreloadBundles) -> list[Send]:
        return self._read(self._store.preload(message.table, unpack_ids(message.bundles)))

    def new_sequence(self) -> None:
        self._store.new_sequence()

    def owns(self, ticket: int) -> bool:
        return self._store.owns(ticket)

    def arrived(self, tickets: Iterable[int]) -> list[Send]:
        waited = self._store.placed is None
        for ticket in tickets:
            self._store.arrived(ticket)
        return self._place() if waited else []

    def failed(self, ticket: int, epoch: int, what: str) -> list[Send]:
        is_waited_for = self._store.failed(ticket)
        return [Send(ActorName.COMPUTE, BundlesUnavailable(epoch, what))] if is_waited_for else []

    def cancelled(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            self._store.failed(ticket)

    def abandon(self) -> list[Send]:
        tickets = self._store.abandon()
        return [Send(ActorName.READER, CancelReads(pack_ids(tickets)))] if tickets else []

    def validate(self) -> None:
        self._store.validate()

    def _place(self) -> list[Send]:
        placed = self._store.placed
        if placed is None:
            return []
        return [Send(ActorName.COMPUTE, BundlesPlaced(placed.request, pack_ids(placed.slots)))]

    def _read(self, gathers: Iterable[Gather]) -> list[Send]:
        return [
            Send(
                ActorName.READER,
                GatherBundles(
                    gather.ticket, gather.table, pack_ids(gather.bundles), pack_ids(gather.slots), gather.demand
                ),
            )
            for gather in gathers
        ]

    def _count(self) -> None:
        counts = self._store.counts
        self._counters[Counter.BUNDLES_USED] = counts.active
        self._counters[Counter.BUNDLE_HITS] = counts.hits
        self._counters[Counter.BUNDLE_PRELOAD_HITS] = counts.preload_hits
        self._counters[Counter.BUNDLES_WASTED] = counts.wasted
