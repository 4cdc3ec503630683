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
