"""What every flash device must do, over the shards of a small model."""

import mmap
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.models import write_tiny_model
from tidemill.storage.arena_plan import align_up
from tidemill.storage.codecs.bundle_digest import seal_bundles
from tidemill.storage.devices.device import FlashDevice, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import BundleCheck, GatherRequest
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import load_extents

LOOKS = 100_000


class DeviceContract:
    codec = "raw"

    def make(self, directory: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]) -> FlashDevice:
        raise NotImplementedError

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        directory = tmp_path / "tiny"
        write_tiny_model(directory, codec=self.codec)
        return directory

    @pytest.fixture
    def manifest(self, model: Path) -> Manifest:
        return load_manifest(model)

    @pytest.fixture
    def arena(self, manifest: Manifest) -> npt.NDArray[np.uint8]:
        size = sum(align_up(extent.bytes) for extent in manifest.extents)
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)

    @pytest.fixture
    def device(self, model: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]) -> Iterator[FlashDevice]:
        device = self.make(model, manifest, arena)
        yield device
        device.close()

    def request(self, manifest: Manifest, index: int, destination: int, **changes: object) -> ReadRequest:
        extent = manifest.extents[index]
        table = manifest.tables[extent.table]
        request = ReadRequest(
            ticket=index,
            shard=extent.shard,
            offset=extent.offset,
            stored_bytes=extent.stored_bytes,
            decoded_bytes=extent.bytes,
            codec=table.planes[0].codec,
            checksums=tuple(int(digest, 16) for digest in extent.checksums),
            checksum_block_bytes=table.checksum_block_bytes,
            destination=destination,
        )
        return request._replace(**changes)  # type: ignore[arg-type]

    def collect(self, device: FlashDevice, count: int) -> dict[int, ReadOutcome]:
        outcomes: dict[int, ReadOutcome] = {}
        for _ in range(LOOKS):
            if device.wake_fds:
                select.select(device.wake_fds, [], [], 5.0)
            for outcome in device.outcomes():
                assert outcome.ticket not in outcomes, "a ticket was answered twice"
                assert 0 <= outcome.begun_ns <= outcome.ended_ns <= time.perf_counter_ns()
                outcomes[outcome.ticket] = outcome._replace(begun_ns=0, ended_ns=0)
            if len(outcomes) == count:
                return outcomes
        raise AssertionError(f"{len(outcomes)} of {count} reads were answered")

    def test_every_extent_arrives_verified_where_it_should(
        self, device: FlashDevice, model: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]
    ) -> None:
        offsets = np.concatenate([[0], np.cumsum([align_up(e.bytes) for e in manifest.extents])]).tolist()
        for index in range(len(manifest.extents)):
            device.submit(self.request(manifest, index, offsets[index]), urgent=index % 5 == 0)
        outcomes = self.collect(device, len(manifest.extents))
        assert all(outcome.error is None and not outcome.cancelled for outcome in outcomes.values())
        for index, extent in enumerate(manifest.extents):
            expected = np.zeros(extent.bytes, np.uint8)
            load_extents(model, manifest, [index], expected, [0])
            assert np.array_equal(arena[offsets[index] : offsets[index] + extent.bytes], expected)

    def test_a_wrong_checksum_is_an_error_that_says_where(self, device: FlashDevice, manifest: Manifest) -> None:
        device.submit(self.request(manifest, 12, 0, checksums=(1,), checksum_block_bytes=0), urgent=False)
        error = self.collect(device, 1)[12].error
        assert error is not None
        assert "checksum" in error

    def test_reading_past_the_end_is_an_error(self, device: FlashDevice, manifest: Manifest) -> None:
        beyond = align_up(manifest.shards[0].bytes)
        device.submit(self.request(manifest, 12, 0, offset=beyond), urgent=False)
        error = self.collect(device, 1)[12].error
        assert error is not None
        assert "end" in error

    def test_every_ticket_is_answered_once_even_when_cancelled(self, device: FlashDevice, manifest: Manifest) -> None:
        offsets = np.concatenate([[0], np.cumsum([align_up(e.bytes) for e in manifest.extents])]).tolist()
        for index in range(40):
            device.submit(self.request(manifest, index, offsets[index]), urgent=False)
        for index in range(10, 40):
            device.cancel(index)
        device.cancel(12345)  # unknown: nothing happens
        outcomes = self.collect(device, 40)
        assert not any(outcomes[index].cancelled for index in range(10))
        assert all(outcome.error is None for outcome in outcomes.values())

    def gather(self, manifest: Manifest, **changes: object) -> GatherRequest:
        """Sixteen pieces of 64 bytes in three reads, some neighbours, in slots that count down."""
        assert manifest.shards[0].bytes > 4 * 4096
        starts = np.array([0, 64, 128, 512, 64, 256, 320, 1024, 1088, 1152, 1216, 0, 2048, 2112, 3968, 4032])
        request = GatherRequest(
            ticket=7,
            shards=np.zeros(3, np.int64),
            offsets=np.array([4096, 8192, 8192]),
            edges=np.array([0, 4, 11, 16]),
            starts=starts,
            slots=np.arange(16)[::-1] * 2,
            bundle_bytes=64,
            pool_offset=4096,
            alignment=4096,
        )
        return request._replace(**changes)  # type: ignore[arg-type]

    def test_gathered_bundles_lie_each_in_its_slot_and_nothing_else_is_touched(
        self, device: FlashDevice, model: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]
    ) -> None:
        request = self.gather(manifest)
        arena[:] = 1
        device.submit_gather(request, urgent=True)
        assert self.collect(device, 1)[7] == ReadOutcome(7, None, False)
        shard = np.frombuffer((model / manifest.shards[int(request.shards[0])].file).read_bytes(), np.uint8)
        expected = np.ones_like(arena)
        for read in range(3):
            for i in range(int(request.edges[read]), int(request.edges[read + 1])):
                at, slot = int(request.offsets[read] + request.starts[i]), 4096 + 64 * int(request.slots[i])
                expected[slot : slot + 64] = shard[at : at + 64]
        assert np.array_equal(arena, expected)

    def test_a_gathered_bundle_that_is_refused_fails_the_whole_request(
        self, device: FlashDevice, manifest: Manifest
    ) -> None:
        check = BundleCheck(3, np.arange(16) + 100)  # nothing there ends in a digest
        device.submit_gather(self.gather(manifest, check=check), urgent=False)
        error = self.collect(device, 1)[7].error or ""
        assert re.search(r"bundle 1\d\d of table 3 has digest [0-9a-f]{16}, expected [0-9a-f]{16}", error)

    def test_sealed_bundles_are_placed_and_one_from_elsewhere_is_refused(
        self, device: FlashDevice, model: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]
    ) -> None:
        bundles = np.random.default_rng(5).integers(0, 256, (64, 320), np.uint8)
        seal_bundles(bundles, 3, 100)
        self.replace_shard(device, model / manifest.shards[0].file, bundles.tobytes())
        wanted = np.array([2, 3, 17, 40])
        request = GatherRequest(
            ticket=1,
            shards=np.zeros(2, np.int64),
            offsets=np.array([0, 4096]),
            edges=np.array([0, 2, 4]),
            starts=wanted * 320 - np.array([0, 0, 4096, 4096]),
            slots=np.array([7, 0, 3, 5]),
            bundle_bytes=320,
            pool_offset=4096,
            alignment=4096,
            check=BundleCheck(3, wanted + 100),
        )
        device.submit_gather(request, urgent=False)
        assert self.collect(device, 1)[1] == ReadOutcome(1, None, False)
        slots = arena[4096 : 4096 + 8 * 320].reshape(8, 320)
        assert np.array_equal(slots[request.slots], bundles[wanted])
        check = BundleCheck(3, wanted + np.array([100, 100, 100, 101]))
        device.submit_gather(request._replace(ticket=2, check=check), urgent=True)
        refused = self.collect(device, 1)[2]
        assert "bundle 141 of table 3 has digest" in (refused.error or "")
        assert refused.failed_read == 1

    def replace_shard(self, device: FlashDevice, shard: Path, data: bytes) -> None:
        shard.write_bytes(data)

    def test_gathering_past_the_end_is_an_error(self, device: FlashDevice, manifest: Manifest) -> None:
        beyond = np.full(3, align_up(manifest.shards[0].bytes))
        device.submit_gather(self.gather(manifest, offsets=beyond), urgent=False)
        refused = self.collect(device, 1)[7]
        assert "end" in (refused.error or "")
        assert refused.failed_read in range(3)

    def test_a_cancelled_gather_is_answered_once(self, device: FlashDevice, manifest: Manifest) -> None:
        for ticket in range(20):
            device.submit_gather(self.gather(manifest, ticket=ticket), urgent=False)
        for ticket in range(20):
            device.cancel(ticket)
        outcomes = self.collect(device, 20)
        assert all(outcome.error is None for outcome in outcomes.values())
        assert not device.outcomes()

    def test_promoted_reads_are_answered_once_like_any(self, device: FlashDevice, manifest: Manifest) -> None:
        for ticket in range(20):
            device.submit_gather(self.gather(manifest, ticket=ticket), urgent=False)
        device.promote([5, 12, 99])
        assert all(outcome == ReadOutcome(ticket, None, False) for ticket, outcome in self.collect(device, 20).items())

    def test_closing_twice_is_fine(self, device: FlashDevice) -> None:
        device.close()
        device.close()
