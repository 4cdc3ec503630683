import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.fakes.models import TINY, random_bundles, tables_of, write_tiny_model
from tidemill.storage.errors import DeviceError, FormatError, SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Source
from tidemill.storage.manifest_file import load_manifest, verify_model
from tidemill.storage.model_writer import partial_directory, write_model
from tidemill.storage.shard_reader import read_permutation, read_table

SOURCE = Source(kind="synthetic", name="tiny", fingerprint="x", note="")
ReadBundles = Callable[[TableId, int, int], npt.NDArray[np.uint8]]


def write(directory: Path, read_bundles: ReadBundles, on_bytes: Callable[[int], None] = lambda _: None) -> Manifest:
    return write_model(
        directory,
        decoder=TINY,
        source=SOURCE,
        tables=tables_of(TINY),
        read_bundles=read_bundles,
        files={"tokenizer.json": b"{}"},
        extent_bytes=4096,
        shard_bytes=100_000,
        on_bytes=on_bytes,
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m", random_bundles(tables_of(TINY), 1))
    assert load_manifest(tmp_path / "m") == manifest
    source = random_bundles(tables_of(TINY), 1)
    for index, table in enumerate(manifest.tables):
        assert np.array_equal(
            read_table(tmp_path / "m", manifest, TableId(index)), source(TableId(index), 0, table.bundle_count)
        )
    assert verify_model(tmp_path / "m", on_bytes=lambda _: None) == []


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", random_bundles(tables_of(TINY), 1))
    write(tmp_path / "b", random_bundles(tables_of(TINY), 1))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_plain_pyarrow_opens_a_shard_and_every_body_is_aligned(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "m")
    path = tmp_path / "m" / manifest.shards[0].file
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        assert reader.num_record_batches == len(manifest.extents)
        data = path.read_bytes()
        for i, extent in enumerate(manifest.extents):
            assert extent.offset % 4096 == 0
            stored = reader.get_batch(i).column(0).to_numpy().tobytes()
            assert stored == data[extent.offset : extent.offset + extent.stored_bytes]


def test_a_killed_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = random_bundles(tables_of(TINY), 1)
    calls: list[int] = []

    def dies(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        calls.append(table)
        if len(calls) == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return source(table, start, stop)

    child = os.fork()
    if child == 0:
        write(tmp_path / "m", dies)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert partial_directory(tmp_path / "m").exists()
    assert not (tmp_path / "m").exists()
    told: list[int] = []
    read: list[int] = []

    def counts(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        read.append(table)
        return source(table, start, stop)

    manifest = write(tmp_path / "m", counts, told.append)
    assert len(read) < len(manifest.extents), "finished shards were done again"
    assert sum(told) == sum(extent.bytes for extent in manifest.extents)
    write(tmp_path / "whole", source)
    assert contents(tmp_path / "m") == contents(tmp_path / "whole")


def test_finished_shards_of_another_model_are_not_taken(tmp_path: Path) -> None:
    source = random_bundles(tables_of(TINY), 1)
    with pytest.raises(RuntimeError):
        write(tmp_path / "m", _failing(source, 40))
    other = random_bundles(tables_of(TINY), 2)
    changed = Source(kind="synthetic", name="other", fingerprint="y", note="")
    manifest = write_model(
        tmp_path / "m",
        decoder=TINY,
        source=changed,
        tables=tables_of(TINY),
        read_bundles=other,
        files={},
        extent_bytes=4096,
        shard_bytes=100_000,
        on_bytes=lambda _: None,
    )
    assert np.array_equal(read_table(tmp_path / "m", manifest, TableId(0)), other(TableId(0), 0, 1))


def test_a_full_disk_is_told_and_leaves_a_partial_that_can_be_gone_on_with(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # a limit on file size stands in for the disk: the writer gets EFBIG from write(2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            write(tmp_path / "m", random_bundles(tables_of(TINY), 1))
        except DeviceError as error:
            os._exit(0 if "no space left" in str(error) and "run the same command again" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (tmp_path / "m").exists()
    assert write(tmp_path / "m", random_bundles(tables_of(TINY), 1)) == load_manifest(tmp_path / "m")


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DeviceError, match="the model needs"):
        write(tmp_path / "m", random_bundles(tables_of(TINY), 1))
    assert list(partial_directory(tmp_path / "m").rglob("*.arrow")) == []


def test_an_existing_destination_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(FormatError, match="exists already"):
        write(tmp_path / "m", random_bundles(tables_of(TINY), 1))


def test_bundles_of_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected"):
        write(tmp_path / "m", lambda table, start, stop: np.zeros((stop - start, 3), np.uint8))


def test_a_permutation_is_stored_and_read(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "m")
    mlp = manifest.get_table("mlp", 0)
    assert np.array_equal(read_permutation(tmp_path / "m", manifest, mlp), np.arange(TINY.ff_size))


def test_what_another_conversion_left_is_not_in_the_model(tmp_path: Path) -> None:
    source = random_bundles(tables_of(TINY), 1)
    with pytest.raises(RuntimeError):
        write(tmp_path / "m", _failing(source, 60))
    partial = partial_directory(tmp_path / "m")
    (partial / "shards" / "00003.writing").write_bytes(b"left by a kill")
    (partial / "shards" / "00099.arrow").write_bytes(b"of a model with more shards")
    (partial / "old.json").write_bytes(b"of a source with other files")
    write(tmp_path / "m", source)
    write(tmp_path / "whole", source)
    assert contents(tmp_path / "m") == contents(tmp_path / "whole")


def test_a_directory_that_no_conversion_wrote_is_left_alone(tmp_path: Path) -> None:
    notes = partial_directory(tmp_path / "m") / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(FormatError, match="not begun by a conversion"):
        write(tmp_path / "m", random_bundles(tables_of(TINY), 1))
    assert notes.read_text() == "mine"


def test_a_failing_disk_of_the_source_is_told_as_such(tmp_path: Path) -> None:
    def fails(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "model.safetensors")

    with pytest.raises(
        SourceError, match=r"cannot read bundles 0..1 of attn_norm .* from the source tiny.*model\.safe"
    ):
        write(tmp_path / "m", fails)


def test_a_damaged_sidecar_is_not_believed(tmp_path: Path) -> None:
    source = random_bundles(tables_of(TINY), 1)
    with pytest.raises(RuntimeError):
        write(tmp_path / "m", _failing(source, 60))
    sidecar = partial_directory(tmp_path / "m") / "shards" / "00000.json"
    data = sidecar.read_bytes()
    assert data.count(b'"offset":12288,') == 1
    sidecar.write_bytes(data.replace(b'"offset":12288,', b'"offset":16384,'))
    assert write(tmp_path / "m", source) == load_manifest(tmp_path / "m")
    assert verify_model(tmp_path / "m", on_bytes=lambda _: None) == []


@pytest.mark.parametrize("step", ["unlink", "rename"])
def test_a_kill_in_the_last_steps_costs_only_the_last_steps(tmp_path: Path, step: str) -> None:
    source = random_bundles(tables_of(TINY), 1)
    child = os.fork()
    if child == 0:
        real = getattr(Path, step)

        def dies(path: Path, *args: object) -> None:
            real(path, *args) if step == "unlink" else None
            os._exit(9)

        setattr(Path, step, dies)
        write(tmp_path / "m", source)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    told: list[int] = []
    manifest = write(tmp_path / "m", _failing(source, 0), told.append)
    assert sum(told) == sum(extent.bytes for extent in manifest.extents)
    write(tmp_path / "whole", source)
    assert contents(tmp_path / "m") == contents(tmp_path / "whole")


def test_names_are_synced_before_and_after_the_model_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave a model whose files are not there."""
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def records(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), (tmp_path / "m").exists()))
        real(handle)

    monkeypatch.setattr("os.fsync", records)
    write(tmp_path / "m", random_bundles(tables_of(TINY), 1))
    partial = partial_directory(tmp_path / "m")
    assert {(str(partial), False), (str(partial / "shards"), False)} <= set(synced)
    assert synced[-1] == (str(tmp_path), True)


def _failing(read_bundles: ReadBundles, after: int) -> ReadBundles:
    calls: list[int] = []

    def read(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        calls.append(table)
        if len(calls) > after:
            raise RuntimeError(errno.errorcode[errno.EIO])
        return read_bundles(table, start, stop)

    return read
