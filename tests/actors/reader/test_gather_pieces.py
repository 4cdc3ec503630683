"""Gathers of which a read fails: that read alone is blamed for it, the others go on, and one answer comes at last."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.actors.reader.test_retries import RememberingAlarm, ToldFlash
from tests.fakes.flash import FakeFlash, Faults
from tests.fakes.layouts import write_blocky_model
from tidemill.actors.actor import Send
from tidemill.actors.counters import Counter as Flash
from tidemill.actors.counters import new_counters
from tidemill.actors.messages import (
    BundlesRead,
    CancelReads,
    GatherBundles,
    PromoteReads,
    ReadFailed,
    ReadsCancelled,
)
from tidemill.actors.packing import pack_ids
from tidemill.actors.reader.actor import ReaderActor
from tidemill.actors.reader.config import ReaderConfig
from tidemill.storage.arena_plan import ArenaPlan, plan_arena
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.devices.device import ReadOutcome
from tidemill.storage.devices.gather import GatherRequest
from tidemill.storage.errors import FailureKind
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

MS = 1_000_000
TICKET = 9


class ToldGathers(ToldFlash):
    """Also takes gathers."""

    def __init__(self) -> None:
        super().__init__()
        self.gathers: list[tuple[GatherRequest, bool]] = []
        self.promoted: list[int] = []

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        self.gathers.append((request, urgent))

    def promote(self, tickets: Collection[int]) -> None:
        self.promoted += tickets


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "channels"
    write_blocky_model(directory, LayoutChoice("input-channel", 1))
    return directory


@pytest.fixture(scope="module")
def manifest(model: Path) -> Manifest:
    return load_manifest(model)


@pytest.fixture(scope="module")
def plan(manifest: Manifest) -> ArenaPlan:
    return plan_arena(manifest, 1 << 30)


def config_of(plan: ArenaPlan) -> ReaderConfig:
    return ReaderConfig(tickets=4, retries=2, pause_ns=MS, bundles=plan.bundles, read_bytes_max=8192)


class Gathering:
    """All bundles of a table, in several reads, under way."""

    def __init__(self, manifest: Manifest, plan: ArenaPlan) -> None:
        self.flash, self.alarm, self.counters = ToldGathers(), RememberingAlarm(), new_counters()
        self.actor = ReaderActor(config_of(plan), manifest, self.flash, self.counters, self.alarm)
        ids = np.arange(plan.bundles.tables[0].channels)
        message = GatherBundles(TICKET, plan.bundles.tables[0].table, pack_ids(ids), pack_ids(ids[::-1]), False)
        assert self.actor.handle(message, 0) == []
        self.count = len(ids)
        self.reads = len(self.flash.gathers[0][0].offsets)
        assert self.reads >= 4

    def told(self, *answers: ReadOutcome) -> Sequence[Send]:
        self.flash.answers = list(answers)
        return self.actor.poll(0)

    def fail(self, ticket: int, read: int, kind: FailureKind = "transient") -> Sequence[Send]:
        return self.told(ReadOutcome(ticket, "what it was", False, kind=kind, failed_read=read))

    def succeed(self, *tickets: int) -> Sequence[Send]:
        return self.told(*(ReadOutcome(ticket, None, False) for ticket in tickets))

    @property
    def tickets(self) -> list[int]:
        """In the order in which they were submitted."""
        return [request.ticket for request, _ in self.flash.gathers]


@pytest.fixture
def gathering(manifest: Manifest, plan: ArenaPlan) -> Gathering:
    return Gathering(manifest, plan)


def test_the_read_that_failed_is_tried_again_after_a_pause_and_the_others_at_once(gathering: Gathering) -> None:
    whole = gathering.flash.gathers[0][0]
    assert gathering.fail(TICKET, 1) == []
    before, behind = (request for request, _ in gathering.flash.gathers[1:])
    assert gathering.alarm.at_ns == MS
    assert gathering.actor.poll(MS) == []
    failed = gathering.flash.gathers[3][0]
    assert len(failed.offsets) == 1
    slots = [*before.slots, *failed.slots, *behind.slots]
    assert slots == whole.slots.tolist(), "every bundle goes where it was to go, once"
    assert gathering.succeed(failed.ticket, before.ticket) == []
    (send,) = gathering.succeed(behind.ticket)
    assert send.message == BundlesRead(pack_ids([TICKET]))
    assert gathering.counters[Flash.FLASH_RETRIES] == 1
    assert gathering.counters[Flash.GATHERED_BYTES] == gathering.count * whole.bundle_bytes


def test_each_read_has_tries_of_its_own(gathering: Gathering) -> None:
    """Every one of them fails twice, which is all that it may; together that is far more."""
    failures: Counter[int] = Counter()  # by the slot of a read's first bundle
    answers: list[Send] = []
    answered = 0
    now = 0
    while not answers:
        for request, _ in gathering.flash.gathers[answered:]:
            answered += 1
            slots = request.slots[request.edges[:-1]].tolist()
            fragile = [read for read, slot in enumerate(slots) if failures[slot] < 2]
            if fragile:
                failures[slots[fragile[0]]] += 1
                answers += gathering.fail(request.ticket, fragile[0])
            else:
                answers += gathering.succeed(request.ticket)
        now += 1000 * MS
        answers += gathering.actor.poll(now)
    assert [send.message for send in answers] == [BundlesRead(pack_ids([TICKET]))]
    assert gathering.counters[Flash.FLASH_RETRIES] == 2 * gathering.reads


def test_one_that_fails_for_good_is_told_when_nothing_is_under_way_any_more(gathering: Gathering) -> None:
    gathering.fail(TICKET, 1, "corrupt")  # damage is read again at once, behind the others
    *others, failed = gathering.tickets[1:]
    assert gathering.fail(failed, 0, "corrupt") == []
    assert sorted(gathering.flash.cancelled) == sorted(others)
    assert gathering.told(ReadOutcome(others[0], None, True)) == []
    (send,) = gathering.succeed(others[1])
    assert isinstance(send.message, ReadFailed)
    assert send.message.ticket == TICKET
    assert "could not be read in 2 tries: what it was" in send.message.what
    assert gathering.actor.poll(1 << 60) == []


def test_pieces_are_cancelled_with_their_gather_those_that_pause_at_once(gathering: Gathering) -> None:
    gathering.fail(TICKET, 1)
    others = gathering.tickets[1:]
    assert gathering.actor.handle(CancelReads(pack_ids([TICKET])), 0) == []
    assert sorted(gathering.flash.cancelled) == sorted(others)
    assert gathering.told(ReadOutcome(others[0], None, True)) == []
    (send,) = gathering.fail(others[1], 0)
    assert send.message == ReadsCancelled(pack_ids([TICKET]))
    assert len(gathering.flash.gathers) == 3, "nothing is tried again"


def test_pieces_of_an_urgent_gather_are_urgent(gathering: Gathering) -> None:
    gathering.actor.handle(PromoteReads(pack_ids([TICKET])), 0)
    gathering.fail(TICKET, 0)
    gathering.actor.poll(MS)
    assert [urgent for _, urgent in gathering.flash.gathers] == [False, True, True]
    gathering.actor.handle(PromoteReads(pack_ids([TICKET])), 0)
    assert sorted(gathering.flash.promoted[1:]) == sorted(gathering.tickets[1:])


@pytest.mark.parametrize("faults", [Faults(error=0.3), Faults(short=0.3), Faults(corrupt=0.03)])
def test_a_drive_that_fails_often_is_survived(model: Path, manifest: Manifest, plan: ArenaPlan, faults: Faults) -> None:
    """Whole gathers would hardly ever come without a fault."""
    arena = np.zeros(plan.arena_bytes, np.uint8)
    flash = FakeFlash.of_model(model, manifest, arena, seed=3, faults=faults)
    counters = new_counters()
    actor = ReaderActor(msgspec.structs.replace(config_of(plan), retries=9), manifest, flash, counters)
    cached = plan.bundles.tables[0]
    ids = np.arange(cached.channels)
    now = 0
    for ticket in range(40):
        actor.handle(GatherBundles(ticket, cached.table, pack_ids(ids), pack_ids(ids), True), now)
        answers: list[Send] = []
        while not answers:
            now += 1 << 50  # beyond any pause
            answers += actor.poll(now)
        assert [send.message for send in answers] == [BundlesRead(pack_ids([ticket]))]
    pool = plan.bundles.pool_of[cached.table]
    places = BundlePlaces(manifest, TableId(cached.table))
    found = places.find(ids)
    shards = [(model / shard.file).read_bytes() for shard in manifest.shards]
    for bundle in ids.tolist():
        at = int(found.offsets[bundle])
        slot = pool.offset + bundle * pool.slot_bytes
        stored = shards[int(found.shards[bundle])][at : at + places.bundle_bytes]
        assert arena[slot : slot + places.bundle_bytes].tobytes() == stored
    assert counters[Flash.FLASH_RETRIES] + counters[Flash.FLASH_REREADS] > 5
