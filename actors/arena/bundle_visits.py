"""Between the arena's messages and its bundle store: visits and preloads in, reads and placements out."""

from collections.abc import Iterable

from tidemill.actors.actor import Send
from tidemill.actors.arena.bundle_reads import Gather
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.speculation import ALL, Speculation
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import (
    ActorName,
    BundlesPlaced,
    BundlesUnavailable,
    CancelReads,
    GatherBundles,
    PreloadBundles,
    PromoteReads,
    VisitBundles,
)
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.manifest import Manifest


class BundleVisits:
    """Every answer is a list of what to send now."""

    def __init__(
        self, store: BundleStore, manifest: Manifest, counters: Counters, gate: GateRules | None = None
    ) -> None:
        self._store = store
        self._speculation = Speculation(store, gate)
        self._manifest = manifest
        self._counters = counters

    def start(self) -> list[Send]:
        return self._read(self._store.load_initial())

    def visit(self, message: VisitBundles, now_ns: int) -> list[Send]:
        table, layer, learns = message.table, message.layer, message.learns
        place = layer - self._manifest.tables[table].layer
        self._speculation.begin_visit(table, layer, place, learns=learns, now_ns=now_ns)
        found = self._store.visit(message.request, table, place, unpack_ids(message.bundles), learns=learns)
        self._count()
        hurried = [Send(ActorName.READER, PromoteReads(pack_ids(found.promoted)))] if found.promoted else []
        given_up = [Send(ActorName.READER, CancelReads(pack_ids(found.cancelled)))] if found.cancelled else []
        return [*hurried, *self._read(found.gathers), *given_up, *self._place(now_ns)]

    def end_visit(self, request: int, now_ns: int) -> list[Send]:
        self._store.end_visit(request)
        self._count()
        return self._read(self._speculation.issue(now_ns))

    def preload(self, message: PreloadBundles, now_ns: int) -> list[Send]:
        bundles = unpack_ids(message.bundles)
        if message.certain:
            return self._read(self._store.preload(message.table, bundles, ALL)[0])
        self._speculation.wish(message.table, bundles)
        return self._read(self._speculation.issue(now_ns))

    def new_sequence(self) -> None:
        self._store.new_sequence()

    def owns(self, ticket: int) -> bool:
        return self._store.owns(ticket)

    def arrived(self, tickets: Iterable[int], now_ns: int) -> list[Send]:
        waited = self._store.placed is None
        for ticket in tickets:
            self._store.arrived(ticket)
        return [*(self._place(now_ns) if waited else []), *self._read(self._speculation.issue(now_ns))]

    def failed(self, ticket: int, epoch: int, what: str) -> list[Send]:
        failure = self._store.failed(ticket)
        if failure.is_final:
            return [Send(ActorName.COMPUTE, BundlesUnavailable(epoch, what))]
        return self._read(failure.gathers)

    def cancelled(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            self._store.failed(ticket)

    def abandon(self) -> list[Send]:
        self._speculation.forget()
        tickets = self._store.abandon()
        return [Send(ActorName.READER, CancelReads(pack_ids(tickets)))] if tickets else []

    def validate(self) -> None:
        self._store.validate()

    def _place(self, now_ns: int) -> list[Send]:
        placed = self._store.placed
        if placed is None:
            return []
        self._speculation.visit_placed(now_ns)
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
        speculated = self._store.speculated
        self._counters[Counter.PRELOAD_USEFUL_BYTES] = speculated.useful
        self._counters[Counter.PRELOAD_WASTED_BYTES] = speculated.wasted
        self._counters[Counter.PRELOAD_CANCELLED_BYTES] = speculated.cancelled
        self._counters[Counter.PRELOAD_TOKENS] = self._speculation.open_tokens
