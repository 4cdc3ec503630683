import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tidemill.runtime.stress.scratch import scratch_file
from tidemill.runtime.tuning.scratch_file import NoScratchSpaceError
from tidemill.storage.codecs.bundle_digest import verify_bundles
from tidemill.storage.errors import DeviceError


def test_the_file_has_exactly_its_size_and_never_a_name(tmp_path: Path) -> None:
    told: list[int] = []
    with scratch_file(tmp_path, 5_000_000, told.append) as path:
        assert list(tmp_path.iterdir()) == []
        assert path.stat().st_size == 5_000_000
        assert len(set(path.read_bytes()[:4096])) > 200  # random
    assert told[-1] == 5_000_000
    assert not path.exists()


def test_bundles_carry_their_digests_and_what_is_left_over_is_no_bundle(tmp_path: Path) -> None:
    size, count = 192, 1000
    with scratch_file(tmp_path, size * count + 50, lambda _: None, bundle_bytes=size) as path:
        data = path.read_bytes()
    verify_bundles(memoryview(data), np.arange(count) * size, size, 0, range(count))
    assert len(data) == size * count + 50


def test_more_than_there_is_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(NoScratchSpaceError, match="give a smaller --size"),
        scratch_file(tmp_path, shutil.disk_usage(tmp_path).total, lambda _: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "no space left"), (errno.EIO, "Input/output error")])
def test_a_disk_that_fills_up_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    monkeypatch.setattr("tidemill.runtime.stress.scratch.os.write", _full_after(2, number, os.write))
    with (
        pytest.raises(DeviceError, match=rf"beyond 8\.0 MiB of 16\.0 MiB: {says}.*smaller --size"),
        scratch_file(tmp_path, 16 << 20, lambda _: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DeviceError, match=r"missing is no directory"),
        scratch_file(tmp_path / "missing", 4096, lambda _: None),
    ):
        pass


def _full_after(writes: int, number: int, write: Callable[[int, memoryview], int]) -> Callable[[int, memoryview], int]:
    """What a disk does that takes so many writes."""
    left = writes

    def limited(fd: int, data: memoryview) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(number, os.strerror(number))
        return write(fd, data)

    return limited
