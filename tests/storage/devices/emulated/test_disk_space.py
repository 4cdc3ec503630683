from pathlib import Path

import pytest

from tests.fakes.emulated import emulation
from tests.fakes.models import TINY, random_bundles, tables_of
from tidemill.storage.devices.emulated.disk_space import DiskSpace
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest import Manifest, Source
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.model_writer import partial_directory, write_model


def write(directory: Path, space: DiskSpace) -> Manifest:
    return write_model(
        directory,
        decoder=TINY,
        source=Source(kind="synthetic", name="tiny", fingerprint="x", note=""),
        tables=tables_of(TINY),
        read_bundles=random_bundles(tables_of(TINY), 1),
        files={},
        extent_bytes=4096,
        shard_bytes=100_000,
        on_bytes=lambda _: None,
        take_space=space.take,
    )


def test_a_full_disk_is_told_and_a_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    expected = write(tmp_path / "whole", DiskSpace(None))
    room = expected.shards[0].bytes + expected.shards[1].bytes + 10_000
    space = DiskSpace.of(emulation(f"emulate:none,fault=enospc:@{room}"))
    with pytest.raises(DeviceError, match=r"no space left while writing .*\.arrow.*run the same command again"):
        write(tmp_path / "m", space)
    partial = partial_directory(tmp_path / "m")
    finished = sorted(path.name for path in partial.rglob("*.arrow"))
    assert finished == ["00000.arrow", "00001.arrow"], "the third did not fit"
    assert not list(partial.rglob("*.writing"))
    assert write(tmp_path / "m", DiskSpace(None)) == load_manifest(tmp_path / "m") == expected


def test_what_a_writer_would_not_heed_is_refused() -> None:
    DiskSpace.of(None).take(1 << 60)
    for text in ("emulate:sata,fault=enospc:@1GB", "emulate:none", "emulate:none,fault=enospc:@1GB,fault=eio:1%"):
        with pytest.raises(ValueError, match="heeds its space alone; accepted: emulate:none,fault=enospc:@SIZE"):
            DiskSpace.of(emulation(text))
