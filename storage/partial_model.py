"""The directory `<name>.partial` of a conversion under way: what of it is finished, what goes, how it gets its name.

Knows no weights. Next to each finished shard lies a sidecar, so that an interrupted conversion goes on at the next one.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.checksums import digest
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import Extent, Shard
from tidemill.storage.shard_writer import TakeSpace

SHARDS = "shards"


class ShardRecord(msgspec.Struct, frozen=True):
    """The sidecar of a finished shard: what a resumed conversion needs to skip it."""

    plan: str
    shard: Shard
    extents: tuple[Extent, ...]


class _Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: the record's own JSON and the checksum of exactly those bytes."""

    checksum: str
    record: msgspec.Raw


class PartialModel:
    """Holds no open file. Everything raises OSError as the system does."""

    def __init__(self, path: Path, take_space: TakeSpace) -> None:
        """`take_space`: see ShardWriter."""
        self.path = path
        self.take_space = take_space

    def find_finished(self, shard_count: int, fingerprint: str) -> Mapping[int, ShardRecord]:
        """The shards that a conversion of this fingerprint has finished."""
        found = {index: self._find_record(index, fingerprint) for index in range(shard_count)}
        return {index: record for index, record in found.items() if record is not None}

    def start(self, finished: Mapping[int, ShardRecord]) -> None:
        """Make the directory, with nothing in it but finished shards: the rest is of a killed run or another source.

        Raises FormatError where it holds what no conversion wrote.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.iterdir()) and not (self.path / SHARDS).is_dir():
            raise FormatError(f"{self.path} was not begun by a conversion; remove it or choose another destination")
        (self.path / SHARDS).mkdir(exist_ok=True)
        self._keep({name for index in finished for name in (shard_name(index), _sidecar_name(index))})

    def add_record(self, index: int, record: ShardRecord) -> None:
        content = msgspec.json.encode(record)
        sidecar = _Sidecar(digest(content), msgspec.Raw(content))
        write_atomically(self.path / _sidecar_name(index), msgspec.json.encode(sidecar))

    def finish(self, directory: Path, names: set[str]) -> None:
        """Give the model of files `names` its name, everything in it being synced. After a kill on the way, this alone
        is to be done again."""
        sync_directory(self.path / SHARDS)  # the manifest and its shards stay, whatever becomes of the sidecars
        sync_directory(self.path)
        self._keep(names)
        sync_directory(self.path / SHARDS)
        self.path.rename(directory)
        sync_directory(directory.parent)

    def _keep(self, names: set[str]) -> None:
        for parent in (self.path, self.path / SHARDS):
            for path in sorted(parent.iterdir()):
                name = str(path.relative_to(self.path))
                if name == SHARDS or name in names:
                    continue
                if path.is_dir() and not path.is_symlink():
                    raise FormatError(f"{path} is a directory that no conversion wrote; remove it")
                path.unlink()

    def _find_record(self, index: int, fingerprint: str) -> ShardRecord | None:
        name = shard_name(index)
        try:
            sidecar = msgspec.json.decode((self.path / _sidecar_name(index)).read_bytes(), type=_Sidecar)
            content = bytes(sidecar.record)
            record = msgspec.json.decode(content, type=ShardRecord)
            whole = (self.path / name).stat().st_size == record.shard.bytes
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        ours = digest(content) == sidecar.checksum and record.plan == fingerprint and record.shard.file == name
        return record if whole and ours else None


def remove_if_empty(partial: Path) -> None:
    """Where nothing was finished there is nothing to go on with, and so nothing to leave behind."""
    for directory in (partial / SHARDS, partial):
        try:
            directory.rmdir()
        except FileNotFoundError:
            continue  # it was never made
        except OSError:
            return  # something is in it


def shard_name(index: int) -> str:
    return f"{SHARDS}/{index:05d}.arrow"


def _sidecar_name(index: int) -> str:
    return f"{SHARDS}/{index:05d}.json"


def sync_directory(path: Path) -> None:
    """Make the names in it outlive a power cut, on file systems that know how to."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
