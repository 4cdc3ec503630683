"""Emulated devices over the real one: the contract of every device, faults that reach the bytes, and the real clock."""

import mmap
import select
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.device import DeviceContract
from tests.fakes.emulated import FakeDrive, emulation, gather_of, read_of
from tests.fakes.models import write_tiny_model
from tests.storage.test_devices import gather_code
from tidemill.storage.codecs.bundle_digest import seal_bundles
from tidemill.storage.devices.device import FlashDevice, ReadOutcome, ReadRequest
from tidemill.storage.devices.emulated.device import EmulatedDevice, Tally, emulate
from tidemill.storage.devices.emulated.spec import table_of
from tidemill.storage.devices.gather import BundleCheck, GatherRequest
from tidemill.storage.devices.thread_pool import ThreadPoolDevice
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

U8 = npt.NDArray[np.uint8]


def emulated(text: str, shards: list[Path], arena: U8, tallies: npt.NDArray[np.int64] | None = None) -> EmulatedDevice:
    below = ThreadPoolDevice(shards, arena, depth=3, load_mode="direct", code=gather_code())
    counts = np.zeros(len(Tally), np.int64) if tallies is None else tallies
    return emulate(below, emulation(text), shards, arena, depth=3, tallies=counts)


class EmulatedContract(DeviceContract):
    text = "emulate:none"

    def make(self, directory: Path, manifest: Manifest, arena: U8) -> FlashDevice:
        return emulated(self.text, [directory / shard.file for shard in manifest.shards], arena)


class TestUnlimited(EmulatedContract):
    pass


class TestFast(EmulatedContract):
    text = "emulate:nvme-gen4"


class TestSlowAndUneasy(EmulatedContract):
    text = "emulate:none,latency=300us,jitter=90%,gc=1ms/2ms"


class TestZstd(EmulatedContract):
    codec = "zstd"
    text = "emulate:ufs-4.0"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


class Reading:
    """Requests of extents of a model, by a device of one text."""

    def __init__(self, model: Path, text: str) -> None:
        self.manifest = load_manifest(model)
        self.arena = np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8)
        self.tallies = np.zeros(len(Tally), np.int64)
        self.shards = [model / shard.file for shard in self.manifest.shards]
        self.device = emulated(text, self.shards, self.arena, self.tallies)

    def request(self, ticket: int, **changes: object) -> ReadRequest:
        return DeviceContract().request(self.manifest, 12, 0, ticket=ticket, **changes)

    def read(self, ticket: int, **changes: object) -> ReadOutcome:
        self.device.submit(self.request(ticket, **changes), urgent=False)
        return DeviceContract().collect(self.device, 1)[ticket]

    def gather(self, request: GatherRequest) -> ReadOutcome:
        self.device.submit_gather(request, urgent=True)
        return DeviceContract().collect(self.device, 1)[request.ticket]

    def placed(self) -> bytes:
        return self.arena[: self.manifest.extents[12].bytes].tobytes()

    def stored(self) -> bytes:
        extent = self.manifest.extents[12]
        return self.shards[0].read_bytes()[extent.offset : extent.offset + extent.stored_bytes]


def offset_of(model: Path, index: int = 12) -> int:
    return load_manifest(model).extents[index].offset


def test_an_io_error_names_file_offset_and_number_and_passes(model: Path) -> None:
    at = offset_of(model)
    reading = Reading(model, f"emulate:none,fault=eio:@{at + 5}x1")
    outcome = reading.read(1)
    assert outcome.error == f"{reading.shards[0]} at offset {at}: Input/output error (EIO)"
    assert outcome.kind == "transient"
    assert reading.read(2).error is None
    assert reading.placed() == reading.stored()
    assert reading.tallies[Tally.FAULTS] == 1
    reading.device.close()


def test_a_short_read_is_told_from_a_truncated_file(model: Path) -> None:
    reading = Reading(model, f"emulate:none,fault=short:@{offset_of(model)}x1")
    outcome = reading.read(1)
    assert outcome.kind == "transient"
    assert "ended early" in (outcome.error or "")
    assert reading.read(2).error is None
    reading.device.close()


def test_a_flipped_bit_is_caught_by_the_checksum_and_by_nothing_else(model: Path) -> None:
    at = offset_of(model)
    reading = Reading(model, f"emulate:none,fault=flip:@{at + 1000}")
    outcome = reading.read(1)
    assert outcome.kind == "corrupt"
    assert "checksum" in (outcome.error or "")
    assert reading.read(2, checksums=()).error is None
    wrong = bytearray(reading.stored())
    wrong[1000] ^= 0x10
    assert reading.placed() == bytes(wrong)
    reading.device.close()


def test_a_flipped_bit_in_a_gathered_bundle_is_caught_by_its_digest(model: Path) -> None:
    bundles = np.random.default_rng(5).integers(0, 256, (64, 4096), np.uint8)
    seal_bundles(bundles, 3, 0)
    reading = Reading(model, "emulate:none,fault=flip:@20500")
    reading.shards[0].write_bytes(bundles.tobytes())
    wanted = gather_of(1, 4)._replace(check=BundleCheck(3, np.arange(4) * 2))
    damaged = wanted._replace(offsets=wanted.offsets + 4096, check=BundleCheck(3, np.arange(4) * 2 + 1))
    assert reading.gather(wanted).error is None
    assert reading.arena[: 4 * 4096].tobytes() == bundles[::2][:4].tobytes()
    outcome = reading.gather(damaged)
    assert outcome.kind == "corrupt"
    assert "bundle 5 of table 3 has digest" in (outcome.error or "")
    unseen = damaged._replace(check=BundleCheck(3, np.arange(4) * 2 + 1, by_digest=False))
    assert reading.gather(unseen).error is None
    bundles[5][20500 - 5 * 4096] ^= 0x10
    assert reading.arena[: 4 * 4096].tobytes() == bundles[1::2][:4].tobytes()
    reading.device.close()


def test_one_bad_read_fails_the_whole_gather(model: Path) -> None:
    reading = Reading(model, "emulate:none,fault=eio:@8192x1")
    assert "at offset 8192: Input/output error (EIO)" in (reading.gather(gather_of(1, 4)).error or "")
    assert reading.gather(gather_of(2, 4)).error is None
    reading.device.close()


def test_a_drive_that_vanishes_fails_what_is_open_and_what_comes_until_it_is_back(model: Path) -> None:
    drive = FakeDrive("emulate:sata,fault=vanish:5s@1s", depth=2)
    drive.seconds([4096])
    drive.clock.now_ns += 999_000_000
    drive.below.held = {1}
    for ticket in (1, 2, 3):
        drive.device.submit(read_of(ticket, 1 << 20), urgent=False)
    lost = drive.wait()
    assert {outcome.ticket for outcome in lost} == {2, 3}, "the device below still writes to the slot of 1"
    drive.below.held.clear()
    for outcome in (*lost, *drive.device.outcomes()):
        assert outcome.kind == "final"
        assert not outcome.cancelled
        assert "ENODEV" in (outcome.error or "")
    drive.device.submit(read_of(4, 4096), urgent=False)
    assert drive.device.outcomes()[0].kind == "final"
    drive.clock.now_ns += 5_000_000_000
    drive.device.submit(read_of(5, 4096), urgent=False)
    assert [(outcome.ticket, outcome.error) for outcome in drive.wait()] == [(5, None)]


def test_whatever_goes_wrong_with_a_fault_is_an_answer(model: Path) -> None:
    reading = Reading(model, "emulate:none,fault=flip:100%")
    reading.shards[0].unlink()
    assert reading.read(1).kind == "final"
    reading.device.close()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["emulate:sd-card", "emulate:none,rate=200MB/s", "emulate:sata,queue=2"])
def test_rates_come_out_by_the_real_clock(tmp_path: Path, text: str) -> None:
    """Three reads of 256 KiB at any time for a second: as the table says, unless the drive below was slower."""
    size, depth = 256 << 10, 4
    (tmp_path / "shard").write_bytes(bytes(16 * size))
    arena = np.frombuffer(mmap.mmap(-1, depth * 4 * size), np.uint8)
    tallies = np.zeros(len(Tally), np.int64)
    device = emulated(f"{text},jitter=0" if "sd" in text else text, [tmp_path / "shard"], arena, tallies)
    done = ticket = 0
    begun = time.perf_counter()
    while (took := time.perf_counter() - begun) < 1.0:
        while ticket - done < depth * 4:
            slot = ticket % (depth * 4)
            device.submit(read_of(ticket, size, offset=slot * size)._replace(destination=slot * size), urgent=False)
            ticket += 1
        select.select(device.wake_fds, [], [], 1.0)
        done += len(device.outcomes())
    device.close()
    found = emulation(text)
    under_way = min(3, found.queue or 3)  # the pool below has three threads
    expected = table_of(found).rate(size, under_way)
    late = int(tallies[Tally.LATE_READS])
    if done * size / took < 0.95 * expected and late > 0.05 * done:
        pytest.skip(f"the drive here is slower than {text}: {late} of {done} reads came late")
    assert done * size / took == pytest.approx(expected, rel=0.05)
