"""The store against a memory that remembers which bundle each slot holds, and reads that are answered in any order."""

from collections.abc import Sequence

import numpy as np
import pytest

from tidemill.actors.arena.bundle_reads import Failure, Gather, VisitReads
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.residency.choose_policy import QuotaKind, ResidencyChoice, ResidencyKind
from tidemill.actors.arena.residency.policy import Ids
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable

CHANNELS, LAYERS = 24, 3
MANY = 1 << 30
SLOT_BYTES = 64


class Machine:
    """A store, what its slots hold, and the reads that are out."""

    def __init__(
        self,
        kind: ResidencyKind = "lfu",
        quotas: tuple[int, ...] = (8, 8, 8),
        slots: int = 80,
        seed: int = 0,
        moves: QuotaKind = "fixed",
    ) -> None:
        pool = BundlePool(0, SLOT_BYTES, slots)
        tables = (CachedTable(4, 0, CHANNELS, quotas), CachedTable(9, 0, CHANNELS, (5,)))
        self.store = BundleStore(BundlePlan((pool,), tables), ResidencyChoice(kind, quotas=moves))
        self.rng = np.random.default_rng(seed)
        self.holds: dict[int, tuple[int, int]] = {}
        self.reads: list[Gather] = []
        self.read_bundles = 0
        self.request = 0

    def send(self, gathers: Sequence[Gather]) -> None:
        for gather in gathers:
            for slot in gather.slots.tolist():
                self.holds.pop(slot, None)  # being overwritten
            self.read_bundles += gather.bundles.size
        self.reads += gathers
        self.store.validate()

    def answer_one(self) -> None:
        gather = self.reads.pop(int(self.rng.integers(len(self.reads))))
        for slot, bundle in zip(gather.slots.tolist(), gather.bundles.tolist(), strict=True):
            self.holds[slot] = (gather.table, bundle)
        self.store.arrived(gather.ticket)
        self.store.validate()

    def answer_all(self) -> None:
        while self.reads:
            self.answer_one()

    def visit(self, table: int, place: int, channels: list[int], *, learns: bool = True) -> None:
        layers = LAYERS if table == 4 else 1
        bundles = np.array(channels, np.uint32) * np.uint32(layers) + np.uint32(place)
        self.request += 1
        self.begin(table, place, bundles, learns=learns)
        while (placed := self.store.placed) is None:
            self.answer_one()
        assert placed.request == self.request
        assert [self.holds[slot] for slot in placed.slots.tolist()] == [(table, bundle) for bundle in bundles.tolist()]
        self.store.end_visit(self.request)
        self.store.validate()

    def begin(self, table: int, place: int, bundles: Ids, *, learns: bool = True) -> VisitReads:
        reads = self.store.visit(self.request, table, place, bundles, learns=learns)
        self.send(reads.gathers)
        for ticket in reads.cancelled:  # a drive that had not begun it
            if self.rng.random() < 0.5:
                self.fail(ticket)
        return reads

    def fail(self, ticket: int) -> Failure:
        self.reads = [gather for gather in self.reads if gather.ticket != ticket]
        failure = self.store.failed(ticket)
        self.send(failure.gathers)
        return failure

    def preload(self, bundles: Sequence[int], *, most: int = MANY) -> list[int]:
        """Their tickets."""
        gathers, _ = self.store.preload(4, np.array(bundles, np.uint32), most)
        self.send(gathers)
        return [gather.ticket for gather in gathers]

    def some(self) -> list[int]:
        return sorted(self.rng.choice(CHANNELS, int(self.rng.integers(0, CHANNELS + 1)), replace=False).tolist())


@pytest.mark.parametrize(
    ("kind", "moves"),
    [("lfu", "fixed"), ("lfu", "adaptive"), ("lru", "fixed"), ("window", "fixed"), ("none", "fixed")],
)
@pytest.mark.parametrize("seed", range(6))
def test_a_visit_is_placed_when_every_bundle_lies_in_its_slot(kind: ResidencyKind, moves: QuotaKind, seed: int) -> None:
    machine = Machine(kind, seed=seed, moves=moves)
    for _ in range(150):
        table = 4 if machine.rng.random() < 0.7 else 9
        place = int(machine.rng.integers(LAYERS)) if table == 4 else 0
        if machine.rng.random() < 0.4:
            bundles = sorted(machine.rng.choice(CHANNELS * LAYERS, 30, replace=False).tolist())
            machine.preload(bundles)
        if machine.reads and machine.rng.random() < 0.5:
            machine.answer_one()
        machine.visit(table, place, machine.some(), learns=bool(machine.rng.random() < 0.8))
        if machine.rng.random() < 0.05:
            machine.store.new_sequence()


def of(place: int, *channels: int) -> list[int]:
    """Bundles of table 4."""
    return [channel * LAYERS + place for channel in channels]


def test_preloaded_bundles_are_not_read_again_and_unused_ones_are_wasted() -> None:
    machine = Machine("none")
    machine.preload(of(2, 0, 1, 2, 3))
    assert machine.store.speculated_in_flight_bytes == 4 * SLOT_BYTES
    machine.answer_all()
    assert machine.store.speculated_in_flight_bytes == 0
    machine.visit(4, 2, [0, 1, 7])
    assert machine.read_bundles == 4 + 1
    assert machine.store.counts.preload_hits == 2
    assert machine.store.counts.wasted == 2
    assert machine.store.speculated == (2 * SLOT_BYTES, 2 * SLOT_BYTES, 0)


def test_a_visit_hurries_a_preload_under_way_instead_of_reading_twice() -> None:
    machine = Machine("none")
    (ticket,) = machine.preload(of(2, 0, 1))
    reads = machine.begin(4, 2, np.array(of(2, 0, 1), np.uint32))
    assert (reads.gathers, reads.promoted, reads.cancelled) == ([], [ticket], [])
    assert machine.store.speculated_in_flight_bytes == 0
    machine.answer_all()
    assert machine.store.placed is not None


def test_a_visit_gives_up_preloads_that_it_has_no_use_for() -> None:
    machine = Machine("none")
    (given_up,) = machine.preload(of(1, 0, 1, 5))
    machine.preload(of(2, 0, 2))
    reads = machine.store.visit(1, 4, 1, np.array(of(1, 3), np.uint32), learns=True)
    assert (reads.promoted, reads.cancelled) == ([], [given_up])
    machine.send(reads.gathers)
    machine.fail(given_up)
    assert machine.store.speculated == (0, 0, 3 * SLOT_BYTES)
    machine.answer_all()
    machine.store.end_visit(1)
    machine.visit(4, 2, [0, 2, 3])
    assert machine.store.speculated == (3 * SLOT_BYTES, 0, 3 * SLOT_BYTES)


def test_what_was_given_up_and_read_all_the_same_is_wasted() -> None:
    machine = Machine("none", seed=2)
    (given_up,) = machine.preload(of(2, 0, 1, 5))
    reads = machine.store.visit(1, 4, 2, np.array(of(2, 3), np.uint32), learns=True)
    assert reads.cancelled == [given_up]
    machine.send(reads.gathers)
    machine.answer_all()
    assert machine.store.speculated == (0, 3 * SLOT_BYTES, 0)


def test_a_preload_of_later_layers_too_is_not_given_up() -> None:
    machine = Machine("none")
    machine.preload([*of(0, 5), *of(2, 5)])
    reads = machine.begin(4, 0, np.array(of(0, 3), np.uint32))
    assert not reads.cancelled


def test_what_a_visit_misses_is_read_for_the_later_layers_of_the_group_too() -> None:
    machine = Machine("none")
    machine.preload(of(1, 4))
    machine.answer_all()
    reads = machine.begin(4, 0, np.array(of(0, 2, 4), np.uint32))
    (gather,) = reads.gathers
    assert gather.bundles.tolist() == [6, 7, 8, 12, 14]  # (2, all three layers), (4, the first and last)
    machine.answer_all()
    machine.store.end_visit(machine.request)
    machine.visit(4, 1, [2, 4])
    machine.visit(4, 2, [2, 9])
    assert machine.read_bundles == 1 + 5 + 1
    assert machine.store.speculated == (3 * SLOT_BYTES, SLOT_BYTES, 0)


def test_a_failed_read_beside_what_is_wanted_is_tried_again_without_it() -> None:
    machine = Machine("none")
    (gather,) = machine.begin(4, 0, np.array(of(0, 2, 4), np.uint32)).gathers
    failure = machine.fail(gather.ticket)
    assert not failure.is_final
    assert [again.bundles.tolist() for again in failure.gathers] == [of(0, 2, 4)]
    machine.answer_all()
    assert machine.store.placed is not None
    machine.store.end_visit(machine.request)
    machine.visit(4, 1, [2])


def test_no_more_is_preloaded_than_is_allowed_at_once() -> None:
    machine = Machine("none")
    gathers, rest = machine.store.preload(4, np.arange(9, dtype=np.uint32), 4)
    machine.send(gathers)
    assert (machine.read_bundles, rest.tolist()) == (4, [4, 5, 6, 7, 8])


def test_speculation_leaves_room_for_the_largest_visit() -> None:
    machine = Machine("lru")
    everything = np.arange(CHANNELS * LAYERS, dtype=np.uint32)
    machine.preload(everything.tolist())
    # 80 slots - quotas (3 x 8 + 5) - reserve 24
    assert machine.read_bundles == 27
    machine.visit(9, 0, list(range(CHANNELS)))
    for place in range(LAYERS):
        machine.visit(4, place, list(range(CHANNELS)))
    machine.preload(everything.tolist())
    assert machine.read_bundles >= 27 + CHANNELS


def test_locked_layers_are_loaded_once_and_stay() -> None:
    machine = Machine("lfu", quotas=(CHANNELS, 4, 4))
    machine.send(machine.store.load_initial())
    assert machine.read_bundles == CHANNELS
    machine.answer_all()
    for _ in range(4):
        assert not machine.begin(4, 0, np.array(of(0, *machine.some()), np.uint32)).cancelled
        machine.store.end_visit(machine.request)
    assert machine.read_bundles == CHANNELS


def test_the_load_of_a_locked_layer_is_not_given_up_for_a_visit() -> None:
    machine = Machine("lfu", quotas=(CHANNELS, 4, 4))
    machine.send(machine.store.load_initial())
    reads = machine.begin(4, 0, np.array(of(0, 1), np.uint32))
    assert reads == ([], [], [])


def test_what_was_given_up_comes_back_when_its_read_is_answered() -> None:
    machine = Machine("lru", slots=60)
    for _ in range(20):
        machine.preload(range(20))
        machine.send(machine.store.visit(0, 9, 0, np.arange(CHANNELS, dtype=np.uint32), learns=True).gathers)
        tickets = machine.store.abandon()
        assert sorted(tickets) == sorted(gather.ticket for gather in machine.reads)
        for gather in machine.reads[::2]:
            machine.store.failed(gather.ticket)
        machine.reads = machine.reads[1::2]
        machine.answer_all()
    for place in range(LAYERS):
        machine.visit(4, place, machine.some())


def test_a_failed_read_that_nobody_waits_for_makes_its_bundles_absent() -> None:
    machine = Machine("none")
    (preload,) = machine.preload(of(2, 0, 1))
    assert machine.fail(preload) == (False, ())
    machine.visit(4, 2, [0, 1])
    assert machine.read_bundles == 4


def test_a_failed_read_of_a_locked_layer_is_read_when_it_is_visited() -> None:
    machine = Machine("lfu", quotas=(CHANNELS, 4, 4))
    (load,) = machine.store.load_initial()
    assert machine.store.failed(load.ticket) == (False, ())
    machine.store.validate()
    machine.visit(4, 0, list(range(CHANNELS)))
    assert machine.read_bundles > CHANNELS


def test_a_failed_read_that_the_visit_waits_for_is_said() -> None:
    machine = Machine("lfu")
    (gather,) = machine.store.visit(1, 4, 2, np.array(of(2, 0, 1), np.uint32), learns=True).gathers
    assert machine.store.failed(gather.ticket).is_final
    machine.store.abandon()
    machine.store.validate()
    machine.request = 1
    machine.visit(4, 0, [0, 1])


def test_quotas_move_and_leave_speculation_and_visits_their_slots() -> None:
    """Layer 1 uses the same bundles always, the others one after another."""
    machine = Machine("lfu", moves="adaptive")
    everything = np.arange(CHANNELS * LAYERS, dtype=np.uint32)
    for token in range(20):
        machine.visit(4, 0, [token % CHANNELS])
        machine.visit(4, 1, list(range(16)))
        machine.visit(4, 2, [(3 * token) % CHANNELS])
    assert machine.store.quota_moves.moved_bundles >= 8  # up to the 16 that it uses
    read = machine.read_bundles
    machine.preload(everything.tolist())
    assert machine.read_bundles - read == 27  # 80 slots - quotas (3 x 8 + 5) - reserve 24, as before
    for place in range(LAYERS):
        machine.visit(4, place, list(range(CHANNELS)))
