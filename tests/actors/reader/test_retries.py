"""The reader over a device whose answers are given: what is tried again, when, how often, and what it says at last."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.actors.actor import Send
from tidemill.actors.counters import Counter, new_counters
from tidemill.actors.messages import (
    BundlesRead,
    CancelReads,
    PromoteReads,
    Read,
    ReadBundles,
    ReadFailed,
    ReadsCancelled,
)
from tidemill.actors.packing import pack_ids
from tidemill.actors.reader.actor import ReaderActor
from tidemill.actors.reader.config import ReaderConfig
from tidemill.storage.devices.device import LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import GatherRequest
from tidemill.storage.errors import FailureKind
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

MS = 1_000_000
EXTENT = 12


class ToldFlash:
    """Implements FlashDevice: answers what it is told to, one submission after the other."""

    load_mode: LoadMode = "direct"
    busy_ns = 0
    wake_fds: Sequence[int] = ()

    def __init__(self) -> None:
        self.submitted: list[tuple[ReadRequest, bool]] = []
        self.cancelled: list[int] = []
        self.answers: list[ReadOutcome] = []

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        self.submitted.append((request, urgent))

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        raise AssertionError("nobody gathers here")

    def cancel(self, ticket: int) -> None:
        self.cancelled.append(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        pass

    def outcomes(self) -> Sequence[ReadOutcome]:
        answers, self.answers = self.answers, []
        return answers

    def close(self) -> None:
        pass


class RememberingAlarm:
    wake_fds = (77,)

    def __init__(self) -> None:
        self.at_ns: int | None = None

    def set(self, at_ns: int | None) -> None:
        self.at_ns = at_ns

    def close(self) -> None:
        pass


class Reading:
    """One read of an extent, under way."""

    def __init__(self, manifest: Manifest, *, retries: int = 3, is_verified: bool = True) -> None:
        self.flash, self.alarm, self.counters = ToldFlash(), RememberingAlarm(), new_counters()
        config = ReaderConfig(tickets=4, retries=retries, pause_ns=MS, is_verified=is_verified)
        self.actor = ReaderActor(config, manifest, self.flash, self.counters, self.alarm)
        self.now_ns = 0
        read = Read(1, EXTENT, 0, manifest.extents[EXTENT].stored_bytes, 0, False)
        assert self.actor.handle(ReadBundles((read,)), 0) == []

    def fail(self, kind: FailureKind, text: str = "what it was") -> Sequence[Send]:
        self.flash.answers = [ReadOutcome(1, text, False, kind=kind)]
        return self.actor.poll(self.now_ns)

    def succeed(self) -> Sequence[Send]:
        self.flash.answers = [ReadOutcome(1, None, False)]
        return self.actor.poll(self.now_ns)

    def wait(self) -> int:
        """Until the alarm; how long that was, in ms."""
        assert self.alarm.at_ns is not None
        waited = self.alarm.at_ns - self.now_ns
        self.now_ns = self.alarm.at_ns - 1
        tries = len(self.flash.submitted)
        assert self.actor.poll(self.now_ns) == []
        assert len(self.flash.submitted) == tries, "tried again too early"
        self.now_ns += 1
        assert self.actor.poll(self.now_ns) == []
        assert len(self.flash.submitted) == tries + 1
        return waited // MS


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    directory: Path = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return load_manifest(directory)


def test_what_may_pass_is_tried_again_after_pauses_that_grow(manifest: Manifest) -> None:
    reading = Reading(manifest)
    pauses = []
    for _ in range(3):
        assert reading.fail("transient") == []
        pauses.append(reading.wait())
    assert pauses == [1, 5, 25]
    assert [type(send.message) for send in reading.succeed()] == [BundlesRead]
    assert reading.counters[Counter.FLASH_RETRIES] == 3
    assert reading.counters[Counter.FLASH_REREADS] == 0
    assert reading.counters[Counter.FLASH_READS] == 1
    assert 77 in reading.actor.wake_fds


def test_after_the_last_try_the_error_says_what_where_how_often_and_what_to_do(manifest: Manifest) -> None:
    reading = Reading(manifest, retries=2)
    for _ in range(2):
        assert reading.fail("transient") == []
        reading.wait()
    (send,) = reading.fail("transient", "shard-0.arrow at offset 4096: Input/output error (EIO)")
    assert isinstance(send.message, ReadFailed)
    for part in (f"extent {EXTENT} (", "bundles ", "in 3 tries: ", "shard-0.arrow at offset 4096", "(EIO)", "dmesg"):
        assert part in send.message.what
    assert reading.actor.poll(1 << 60) == [], "it was answered, and nothing waits any more"


def test_damage_is_read_once_more_at_once_and_then_told(manifest: Manifest) -> None:
    reading = Reading(manifest)
    assert reading.fail("corrupt") == []
    assert len(reading.flash.submitted) == 2
    assert [type(send.message) for send in reading.succeed()] == [BundlesRead]
    assert reading.counters[Counter.FLASH_REREADS] == 1
    again = Reading(manifest)
    assert again.fail("corrupt") == []
    (send,) = again.fail("corrupt", "has checksum 00, expected 01")
    assert isinstance(send.message, ReadFailed)
    assert "in 2 tries: has checksum 00, expected 01" in send.message.what
    assert "dmesg" not in send.message.what
    assert again.counters[Counter.FLASH_RETRIES] == 0


def test_what_stays_as_it_is_fails_at_once(manifest: Manifest) -> None:
    (send,) = Reading(manifest).fail("final", "the file is truncated")
    assert isinstance(send.message, ReadFailed)
    assert "in 1 try: the file is truncated" in send.message.what


def test_errors_and_damage_have_bounds_of_their_own(manifest: Manifest) -> None:
    reading = Reading(manifest, retries=1)
    assert reading.fail("transient") == []
    assert reading.wait() == 1
    assert reading.fail("corrupt") == []
    assert isinstance(reading.fail("transient")[0].message, ReadFailed)


def test_a_read_that_pauses_is_cancelled_at_once(manifest: Manifest) -> None:
    reading = Reading(manifest)
    reading.fail("transient")
    (send,) = reading.actor.handle(CancelReads(pack_ids([1])), 0)
    assert isinstance(send.message, ReadsCancelled)
    assert reading.flash.cancelled == []
    assert reading.actor.poll(1 << 60) == []
    assert len(reading.flash.submitted) == 1


def test_a_cancelled_read_that_fails_is_not_tried_again(manifest: Manifest) -> None:
    reading = Reading(manifest)
    assert reading.actor.handle(CancelReads(pack_ids([1])), 0) == []
    assert reading.flash.cancelled == [1]
    assert [type(send.message) for send in reading.fail("transient")] == [ReadsCancelled]


def test_a_read_that_became_urgent_is_urgent_when_it_is_tried_again(manifest: Manifest) -> None:
    reading = Reading(manifest)
    reading.actor.handle(PromoteReads(pack_ids([1])), 0)
    reading.fail("corrupt")
    assert [urgent for _, urgent in reading.flash.submitted] == [False, True]


def test_without_verification_no_checksum_goes_with_a_read(manifest: Manifest) -> None:
    assert Reading(manifest).flash.submitted[0][0].checksums
    unverified = Reading(manifest, is_verified=False).flash.submitted[0][0]
    assert unverified.checksums == ()
    assert unverified.check is not None, "kernels must be able to follow it all the same"
