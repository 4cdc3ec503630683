"""Between the arena's messages and its bundle store: visits and preloads in, reads and placements out."""

from collections import deque
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

LOADING_MAX = 4  # gathers of what is cached from the start that the reader has at a time: more would fill its link


class BundleVisits:
    """Every answer is a list of what to send now."""

    def __init__(
        self, store: BundleStore, manifest: Manifest, counters: Counters, gate: GateRules | None = None
    ) -> None:
        self._store = store
        self._speculation = Speculation(store, gate)
        self._manifest = manifest
        self._counters = counters
        self._to_load: deque[Gather] = deque()  # of the start, not sent yet
        self._loading: set[int] = set()  # tickets of those that were
        self._postponed: VisitBundles | None = None  # until reads that were given up have been answered

    def start(self) -> list[Send]:
        self._to_load.extend(self._store.load_initial())
        return self._load()

    def visit(self, message: VisitBundles, now_ns: int) -> list[Send]:
        table, layer, learns = message.table, message.layer, message.learns
        place, bundles = layer - self._manifest.tables[table].layer, unpack_ids(message.bundles)
        self._postponed = None if self._store.may_visit(table, place, bundles) else message
        if self._postponed is not None:
            return []
        self._speculation.begin_visit(table, layer, place, learns=learns, now_ns=now_ns)
        found = self._store.visit(message.request, table, place, bundles, learns=learns)
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
        if self._postponed is not None:
            return []  # there is less than a visit needs
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
            self._loading.discard(ticket)
        placed = self._place(now_ns) if waited else []
        postponed = self._visit_postponed(now_ns)
        speculated = [] if self._postponed is not None else self._speculation.issue(now_ns)
        return [*placed, *postponed, *self._load(), *self._read(speculated)]

    def failed(self, ticket: int, epoch: int, what: str, now_ns: int) -> list[Send]:
        failure = self._store.failed(ticket)
        self._loading.discard(ticket)
        if failure.is_final:
            return [Send(ActorName.COMPUTE, BundlesUnavailable(epoch, what)), *self._load()]
        return [*self._read(failure.gathers), *self._visit_postponed(now_ns), *self._load()]

    def cancelled(self, tickets: Iterable[int], now_ns: int) -> list[Send]:
        for ticket in tickets:
            self._store.failed(ticket)
            self._loading.discard(ticket)
        return [*self._visit_postponed(now_ns), *self._load()]

    def abandon(self) -> list[Send]:
        """What was not sent yet is still wanted, and nobody else could answer for it."""
        self._speculation.forget()
        self._postponed = None
        unsent = {gather.ticket for gather in self._to_load}
        tickets = [ticket for ticket in self._store.abandon() if ticket not in unsent]
        return [Send(ActorName.READER, CancelReads(pack_ids(tickets)))] if tickets else []

    def validate(self) -> None:
        self._store.validate()

    def _place(self, now_ns: int) -> list[Send]:
        placed = self._store.placed
        if placed is None:
            return []
        self._speculation.visit_placed(now_ns)
        return [Send(ActorName.COMPUTE, BundlesPlaced(placed.request, pack_ids(placed.slots)))]

    def _visit_postponed(self, now_ns: int) -> list[Send]:
        return [] if self._postponed is None else self.visit(self._postponed, now_ns)

    def _load(self) -> list[Send]:
        now: list[Gather] = []
        while self._to_load and len(self._loading) < LOADING_MAX:
            now.append(self._to_load.popleft())
            self._loading.add(now[-1].ticket)
        return self._read(now)

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
        self._counters[Counter.QUOTA_MOVED] = self._store.quota_moves.moved_bundles
        speculated = self._store.speculated
        self._counters[Counter.PRELOAD_USEFUL_BYTES] = speculated.useful
        self._counters[Counter.PRELOAD_WASTED_BYTES] = speculated.wasted
        self._counters[Counter.PRELOAD_CANCELLED_BYTES] = speculated.cancelled
        self._counters[Counter.PRELOAD_TOKENS] = self._speculation.open_tokens
