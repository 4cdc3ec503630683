import os
from pathlib import Path

import pytest

from tidemill.runtime.tuning.flash import FlashMeter, FlashPlan, FlashTooSmallError
from tidemill.storage.errors import DeviceError

PLAN = FlashPlan(request_sizes=(4096, 16384), depths=(1, 2), seconds=0.004)


def make_file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def test_every_size_and_depth_gets_a_rate(tmp_path: Path) -> None:
    files = [make_file(tmp_path / name, 100_000) for name in ("a", "b")]
    seconds: list[float] = []
    rates = FlashMeter(files, source="two files").measure(PLAN, seconds.append)
    assert [(point.request_bytes, point.depth) for point in rates.points] == list(PLAN.points)
    assert all(point.bytes_per_s > 0 for point in rates.points)
    assert rates.source == "two files"
    assert sum(seconds) == pytest.approx(len(PLAN.points) * PLAN.seconds)


def test_each_read_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    files = [make_file(tmp_path / "a", 20_000), make_file(tmp_path / "b", 8192)]
    meter = FlashMeter(files, source="")
    read = [(request.shard, request.offset) for request in (meter._request(0, 8192) for _ in range(5))]
    assert read == [(0, 0), (0, 8192), (1, 0), (0, 0), (0, 8192)]


def test_a_file_too_small_for_the_largest_request_is_passed_over(tmp_path: Path) -> None:
    files = [make_file(tmp_path / "a", 4096), make_file(tmp_path / "b", 16384)]
    meter = FlashMeter(files, source="")
    assert {meter._request(0, 16384).shard for _ in range(3)} == {1}


def test_files_without_room_for_a_request_are_refused(tmp_path: Path) -> None:
    meter = FlashMeter([make_file(tmp_path / "a", 16383)], source="the model")
    with pytest.raises(FlashTooSmallError, match="the model has no file of 16384 bytes"):
        meter.measure(PLAN, lambda _: None)


def test_a_failed_read_ends_the_measurement(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a", 65536)
    meter = FlashMeter([path], source="")
    path.write_bytes(b"")  # truncated behind the meter's back
    with pytest.raises(DeviceError, match="truncated"):
        meter.measure(PLAN, lambda _: None)
