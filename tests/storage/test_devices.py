import contextlib
import errno
import fcntl
import mmap
import os
import threading
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.device import DeviceContract
from tests.fakes.flash import FakeFlash
from tidemill.runtime.environment import kernel_directory
from tidemill.storage.devices.device import FlashDevice, ReadRequest
from tidemill.storage.devices.native.code import load_code
from tidemill.storage.devices.native.order import GatherFunction
from tidemill.storage.devices.shard_files import O_DIRECT
from tidemill.storage.devices.thread_pool import ThreadPoolDevice
from tidemill.storage.manifest import Manifest


@cache
def gather_code() -> GatherFunction:
    return load_code(kernel_directory()).gather


class ThreadPoolContract(DeviceContract):
    mode = "direct"

    def make(self, directory: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]) -> FlashDevice:
        shards = [directory / shard.file for shard in manifest.shards]
        return ThreadPoolDevice(shards, arena, depth=3, load_mode=self.mode, code=gather_code())  # type: ignore[arg-type]

    def test_a_shard_that_ends_inside_a_page_is_told_as_truncated(
        self, device: FlashDevice, model: Path, manifest: Manifest
    ) -> None:
        """A direct read goes on at a page, so what it gets there is never nothing."""
        last = len(manifest.extents) - 1
        end = manifest.extents[last].offset + 100
        os.truncate(model / manifest.shards[0].file, end)
        device.submit(self.request(manifest, last, 0), urgent=False)
        error = self.collect(device, 1)[last].error
        assert error is not None
        assert f"ends at offset {end}, expected" in error
        assert "the file is truncated" in error


class TestDirect(ThreadPoolContract):
    pass


class TestDirectZstd(ThreadPoolContract):
    codec = "zstd"


class TestStaged(ThreadPoolContract):
    mode = "staged"

    def test_the_mode_in_force_is_told(self, device: FlashDevice) -> None:
        assert device.load_mode == "staged"


class TestStagedZstd(ThreadPoolContract):
    mode = "staged"
    codec = "zstd"


class TestDirectPlanes(ThreadPoolContract):
    codec = "bf16-planes"


class TestBuffered(ThreadPoolContract):
    mode = "buffered"

    def test_the_mode_in_force_is_told(self, device: FlashDevice) -> None:
        assert device.load_mode == "buffered"


class TestFake(DeviceContract):
    def replace_shard(self, device: FlashDevice, shard: Path, data: bytes) -> None:
        assert isinstance(device, FakeFlash)
        device.replace_shard(0, data)

    def make(self, directory: Path, manifest: Manifest, arena: npt.NDArray[np.uint8]) -> FlashDevice:
        return FakeFlash.of_model(directory, manifest, arena, seed=4)


class TestRefusedDirectIo(ThreadPoolContract):
    """A file system that knows no O_DIRECT: the whole contract holds, buffered."""

    @pytest.fixture(autouse=True)
    def refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.open

        def refusing(path: str, flags: int, *args: int) -> int:
            if flags & O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(path, flags, *args)

        monkeypatch.setattr("tidemill.storage.devices.thread_pool.os.open", refusing)

    def test_the_device_says_that_it_is_buffered(self, device: FlashDevice, manifest: Manifest) -> None:
        device.submit(self.request(manifest, 0, 0), urgent=False)
        assert self.collect(device, 1)[0].error is None
        assert device.load_mode == "buffered"


class TestDirectIoRefusedAtTheFirstRead(ThreadPoolContract):
    """All threads are refused at once: the first one's falling back must not make an error of the others' refusals."""

    @pytest.fixture(autouse=True)
    def refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.preadv
        together = threading.Barrier(3)

        def refusing(fd: int, buffers: list[memoryview], offset: int) -> int:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & O_DIRECT:
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(0.2)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(fd, buffers, offset)

        monkeypatch.setattr("tidemill.storage.devices.thread_pool.os.preadv", refusing)


class TestShortReads(ThreadPoolContract):
    """A device that gives a page at a time is gone on with until everything is there."""

    @pytest.fixture(autouse=True)
    def shorten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.preadv
        monkeypatch.setattr(
            "tidemill.storage.devices.thread_pool.os.preadv", lambda fd, buffers, at: real(fd, [buffers[0][:4096]], at)
        )


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    arena = np.frombuffer(mmap.mmap(-1, 4096), np.uint8)
    device = ThreadPoolDevice([tmp_path / "gone.arrow"], arena, depth=1, load_mode="direct")
    contract = DeviceContract()

    device.submit(ReadRequest(1, 0, 0, 10, 10, "raw", (0,), 0, 0), urgent=False)
    error = contract.collect(device, 1)[1].error
    device.close()
    assert error is not None
    assert "gone.arrow cannot be opened" in error


def test_an_arena_that_direct_reads_cannot_go_to_is_refused(tmp_path: Path) -> None:
    """Every read would be refused, and the device would be buffered without a word."""
    arena = np.frombuffer(mmap.mmap(-1, 8192), np.uint8)[8:]
    with pytest.raises(ValueError, match="starts 8 bytes past a multiple of 4096"):
        ThreadPoolDevice([tmp_path / "shard"], arena, depth=1, load_mode="direct")
    ThreadPoolDevice([tmp_path / "shard"], arena, depth=1, load_mode="buffered").close()


@pytest.mark.parametrize("failure", [MemoryError("no room"), KeyError("surprise")])
def test_whatever_goes_wrong_in_a_thread_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """A ticket that is never answered is waited for for ever."""

    def fail(*_: object) -> None:
        raise failure

    (tmp_path / "shard").write_bytes(bytes(4096))
    monkeypatch.setattr("tidemill.storage.devices.thread_pool.verify_blocks", fail)
    device = ThreadPoolDevice([tmp_path / "shard"], np.zeros(8192, np.uint8), depth=1, load_mode="buffered")
    for ticket in (1, 2):  # the thread lives on
        device.submit(ReadRequest(ticket, 0, 0, 10, 10, "raw", (0,), 0, 0), urgent=False)
        error = DeviceContract().collect(device, 1)[ticket].error
        assert error is not None
        assert type(failure).__name__ in error
    device.close()
