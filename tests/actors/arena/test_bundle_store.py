"""The store against a memory that remembers which bundle each slot holds, and reads that are answered in any order."""

import numpy as np
import pytest

from tidemill.actors.arena.bundle_store import BundleStore, Gather
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, ResidencyKind
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable

CHANNELS, LAYERS = 24, 3


class Machine:
    """A store, what its slots hold, and the reads that are out."""

    def __init__(
        self, kind: ResidencyKind = "lfu", quotas: tuple[int, ...] = (8, 8, 8), slots: int = 80, seed: int = 0
    ) -> None:
        pool = BundlePool(0, 64, slots)
        tables = (CachedTable(4, 0, CHANNELS, quotas), CachedTable(9, 0, CHANNELS, (5,)))
        self.store = BundleStore(BundlePlan((pool,), tables), ResidencyChoice(kind))
        self.rng = np.random.default_rng(seed)
        self.holds: dict[int, tuple[int, int]] = {}
        self.reads: list[Gather] = []
        self.read_bundles = 0
        self.request = 0

    def send(self, gathers: list[Gather]) -> None:
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
        self.send(self.store.visit(self.request, table, place, bundles, learns=learns))
        while (placed := self.store.placed) is None:
            self.answer_one()
        assert placed.request == self.request
        assert [self.holds[slot] for slot in placed.slots.tolist()] == [(table, bundle) for bundle in bundles.tolist()]
        self.store.end_visit(self.request)
        self.store.validate()

    def some(self) -> list[int]:
        return sorted(self.rng.choice(CHANNELS, int(self.rng.integers(0, CHANNELS + 1)), replace=False).tolist())


@pytest.mark.parametrize("kind", ["lfu", "lru", "window", "none"])
@pytest.mark.parametrize("seed", range(6))
def test_a_visit_is_placed_when_every_bundle_lies_in_its_slot(kind: ResidencyKind, seed: int) -> None:
    machine = Machine(kind, seed=seed)
    for _ in range(150):
        table = 4 if machine.rng.random() < 0.7 else 9
        place = int(machine.rng.integers(LAYERS)) if table == 4 else 0
        if machine.rng.random() < 0.4:
            bundles = sorted(machine.rng.choice(CHANNELS * LAYERS, 30, replace=False).tolist())
            machine.send(machine.store.preload(4, np.array(bundles, np.uint32)))
        if machine.reads and machine.rng.random() < 0.5:
            machine.answer_one()
        machine.visit(table, place, machine.some(), learns=bool(machine.rng.random() < 0.8))
        if machine.rng.random() < 0.05:
            machine.store.new_sequence()


def test_preloaded_bundles_are_not_read_again_and_unused_ones_are_wasted() -> None:
    machine = Machine("none")
    machine.send(machine.store.preload(4, np.array([0, 3, 6, 9], np.uint32)))  # channels 0..3 of layer 0
    machine.answer_all()
    machine.visit(4, 0, [0, 1, 7])
    assert machine.read_bundles == 4 + 1
    assert machine.store.counts.preload_hits == 2
    assert machine.store.counts.wasted == 2


def test_a_visit_waits_for_a_preload_under_way_instead_of_reading_twice() -> None:
    machine = Machine("none")
    machine.send(machine.store.preload(4, np.array([0, 3], np.uint32)))
    assert not machine.store.visit(1, 4, 0, np.array([0, 3], np.uint32), learns=True)
    assert machine.store.placed is None
    machine.answer_all()
    assert machine.store.placed is not None


def test_speculation_leaves_room_for_the_largest_visit() -> None:
    machine = Machine("lru")
    everything = np.arange(CHANNELS * LAYERS, dtype=np.uint32)
    machine.send(machine.store.preload(4, everything))
    # 80 slots - quotas (3 x 8 + 5) - reserve 24
    assert machine.read_bundles == 27
    machine.visit(9, 0, list(range(CHANNELS)))
    for place in range(LAYERS):
        machine.visit(4, place, list(range(CHANNELS)))
    machine.send(machine.store.preload(4, everything))
    assert machine.read_bundles >= 27 + CHANNELS


def test_locked_layers_are_loaded_once_and_stay() -> None:
    machine = Machine("lfu", quotas=(CHANNELS, 4, 4))
    machine.send(machine.store.load_initial())
    assert machine.read_bundles == CHANNELS
    machine.answer_all()
    for _ in range(4):
        machine.visit(4, 0, machine.some())
    assert machine.read_bundles == CHANNELS


def test_what_was_given_up_comes_back_when_its_read_is_answered() -> None:
    machine = Machine("lru", slots=60)
    for _ in range(20):
        machine.send(machine.store.preload(4, np.arange(20, dtype=np.uint32)))
        machine.send(machine.store.visit(machine.request + 1, 9, 0, np.arange(CHANNELS, dtype=np.uint32), learns=True))
        tickets = machine.store.abandon()
        assert sorted(tickets) == sorted(gather.ticket for gather in machine.reads)
        for gather in machine.reads[::2]:
            machine.store.failed(gather.ticket)
        machine.reads = machine.reads[1::2]
        machine.answer_all()
        machine.request += 1
    for place in range(LAYERS):
        machine.visit(4, place, machine.some())


def test_a_failed_read_that_nobody_waits_for_makes_its_bundles_absent() -> None:
    machine = Machine("none")
    (preload,) = machine.store.preload(4, np.array([0, 3], np.uint32))
    assert not machine.store.failed(preload.ticket)
    machine.store.validate()
    machine.visit(4, 0, [0, 1])
    assert machine.read_bundles == 2


def test_a_failed_read_of_a_locked_layer_is_read_when_it_is_visited() -> None:
    machine = Machine("lfu", quotas=(CHANNELS, 4, 4))
    (load,) = machine.store.load_initial()
    assert not machine.store.failed(load.ticket)
    machine.store.validate()
    machine.visit(4, 0, list(range(CHANNELS)))
    assert machine.read_bundles == CHANNELS


def test_a_failed_read_that_the_visit_waits_for_is_said() -> None:
    machine = Machine("lfu")
    (gather,) = machine.store.visit(1, 4, 0, np.array([0, 3], np.uint32), learns=True)
    assert machine.store.failed(gather.ticket)
    machine.store.abandon()
    machine.store.validate()
    machine.request = 1
    machine.visit(4, 0, [0, 1])
