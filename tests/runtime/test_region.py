import os
from pathlib import Path

import numpy as np
import pytest

from tidemill.runtime.region import Region, RegionError, RegionRef


@pytest.mark.parametrize("memfd", [True, False])
def test_what_one_side_writes_the_other_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memfd: bool) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    region = Region.create("test", 10_000, tmp_path)
    other = Region.attach(region.ref)
    region.array[:] = 7
    assert np.all(other.array == 7)
    assert region.bytes % 4096 == 0
    assert (list(tmp_path.iterdir()) == []) == memfd
    other.close()
    region.close()
    region.close()


def test_a_region_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="cannot attach"):
        Region.attach(RegionRef(str(tmp_path / "gone"), 4096))


def test_a_region_that_cannot_be_made_names_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(RegionError, match="MiB"):
        Region.create("big", 1 << 50, tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size == 0


@pytest.mark.parametrize("memfd", [True, False])
def test_a_region_that_cannot_be_made_leaves_no_fd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memfd: bool
) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    before = os.listdir("/proc/self/fd")
    for size in (1 << 50, 1 << 60):
        with pytest.raises(RegionError):
            Region.create(f"big-{size}", size, tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("memfd", [True, False])
def test_a_region_is_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memfd: bool) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    region = Region.create("test", 4096, tmp_path)
    assert os.stat(region.ref.path).st_mode & 0o777 == 0o600
    os.chmod(region.ref.path, 0o660)
    with pytest.raises(RegionError, match="mode 660, expected"):
        Region.attach(region.ref)
    region.close()


def test_what_is_no_region_is_not_attached(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "short").touch(0o600)
    os.truncate(tmp_path / "short", 4096)
    for size in (4097, 1 << 40, 0, -1):
        with pytest.raises(RegionError, match="it has 4096 bytes"):
            Region.attach(RegionRef(str(tmp_path / "short"), size))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(RegionError, match="not a regular file"):
        Region.attach(RegionRef(str(tmp_path / "fifo"), 4096))
    assert len(os.listdir("/proc/self/fd")) == before
