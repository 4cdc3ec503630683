from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.reader.targets import find_files, is_model, open_target
from tidemill.storage.checksums import digest
from tidemill.storage.errors import DeviceError


def nothing(what: str, done: int, total: int) -> None:
    pass


def job(*files: Path, **changes: object) -> ReaderJob:
    return ReaderJob(name="a", files=tuple(map(str, files)), load_mode="direct", **changes)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, size in (("a", 3 * 4096 + 100), ("b", 4096), ("c", 10)):
        (tmp_path / name).write_bytes(bytes(i % 251 for i in range(size)))
    return [tmp_path / name for name in ("a", "b", "c")]


def test_a_directory_is_its_files_that_hold_a_block(files: list[Path]) -> None:
    directory = files[0].parent
    (directory / "link").symlink_to(files[0])
    assert find_files([str(directory)], 4096) == (str(files[0]), str(files[1]))
    with pytest.raises(DeviceError, match="without a file of at least 65536 bytes"):
        find_files([str(directory)], 65536)


def test_what_is_no_file_is_named() -> None:
    with pytest.raises(DeviceError, match="/dev/null is neither a file"):
        find_files(["/dev/null"], 1)
    with pytest.raises(DeviceError, match="/nowhere/at/all cannot be read: No such file"):
        find_files(["/nowhere/at/all"], 1)


def test_whole_blocks_of_each_file_are_one_extent(files: list[Path]) -> None:
    target = open_target(job(*files[:2]), nothing)
    assert [extent.stored_bytes for extent in target.manifest.extents] == [3 * 4096, 4096]
    assert not target.is_verified
    assert [extent.stored_bytes for extent in open_target(job(*files[:2], size=8192), nothing).manifest.extents] == [
        4096, 4096,
    ]  # fmt: skip


def test_a_file_without_a_block_is_refused(files: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"/c: its region of 10 bytes holds no block"):
        open_target(job(files[2]), nothing)


def test_verifying_learns_the_digest_of_every_block_and_tells_how_far_it_is(files: list[Path]) -> None:
    told: list[tuple[str, int, int]] = []
    target = open_target(job(files[0], verify=True), lambda *what: told.append(what))
    data = files[0].read_bytes()
    assert target.manifest.extents[0].checksums == tuple(digest(data[i * 4096 : (i + 1) * 4096]) for i in range(3))
    assert target.is_verified
    assert told[-1] == ("learning checksums of a", 3 * 4096, 3 * 4096)


def test_a_model_is_read_by_its_own_manifest_and_checksums(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    assert is_model([str(tmp_path / "tiny")])
    target = open_target(job(tmp_path / "tiny", block_bytes=None), nothing)
    assert target.is_verified
    assert all(extent.checksums for extent in target.manifest.extents)
    bare = open_target(job(tmp_path / "tiny", block_bytes=None, verify=False), nothing)
    assert not bare.is_verified


def test_single_bundles_of_any_file_are_refused(files: list[Path]) -> None:
    with pytest.raises(ValueError, match="leave --filename out"):
        open_target(job(files[0], scatter=3), nothing)
