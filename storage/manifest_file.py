"""Loads and saves `manifest.json`. What comes out of `load_manifest` is safe to compute with: see `manifest_rules`."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.checksums import digest, digest_file
from tidemill.storage.errors import FormatError, StorageError, VersionError
from tidemill.storage.manifest import FORMAT_VERSION, Manifest, Shard
from tidemill.storage.manifest_rules import check_manifest
from tidemill.storage.model_files import check_model_file

MANIFEST_FILE = "manifest.json"
MANIFEST_BYTES_MAX = 256 << 20


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: the manifest's own JSON and the checksum of exactly those bytes."""

    format_version: int
    checksum: str
    manifest: msgspec.Raw


def save_manifest(directory: Path, manifest: Manifest) -> None:
    """Write atomically, synced."""
    content = msgspec.json.encode(manifest)
    data = msgspec.json.encode(_Envelope(manifest.format_version, digest(content), msgspec.Raw(content)))
    write_atomically(directory / MANIFEST_FILE, data)


def load_manifest(directory: Path) -> Manifest:
    """Read and check a model's manifest, and that its shards are there with the right sizes.

    Raises FormatError, VersionError; each names the file and what is wrong with it.
    """
    path = directory / MANIFEST_FILE
    manifest = _decode(path, _read(path))
    check_manifest(manifest, path)
    for shard in manifest.shards:
        _check_shard(directory, shard)
    for file in manifest.files:
        if os.path.lexists(directory / file.file):  # who needs one that is missing says so
            check_model_file(directory, file.file)
    return manifest


def _read(path: Path) -> bytes:
    if os.path.lexists(path):
        check_model_file(path.parent, path.name)
    try:
        # A FIFO without a writer would keep a blocking open for ever.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{path} is not a regular file; convert or pull the model again")
            if status.st_size > MANIFEST_BYTES_MAX:
                raise FormatError(
                    f"{path} has {status.st_size} bytes, at most {MANIFEST_BYTES_MAX} are allowed; it is no manifest "
                    "of ours"
                )
            return file.read(status.st_size)  # `read` allocates what it is asked for
    except FileNotFoundError:
        raise FormatError(
            f"{path.parent} is not a converted model: it has no {MANIFEST_FILE}. Convert a model with `tidemill "
            "convert SRC DST` "
            "or get one with `tidemill pull NAME`"
        ) from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error


def _decode(path: Path, data: bytes) -> Manifest:
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        if envelope.format_version != FORMAT_VERSION:
            raise VersionError(
                f"{path}: format version {envelope.format_version}, this program reads {FORMAT_VERSION}; convert "
                "the model again "
                "or use the matching version of tidemill"
            )
        content = bytes(envelope.manifest)
        if digest(content) != envelope.checksum:
            raise FormatError(
                f"{path}: its content has checksum {digest(content)}, the file says {envelope.checksum}; it is "
                "damaged: convert or "
                "pull the model again"
            )
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path} is not a valid manifest: {error}; convert or pull the model again") from None


def _check_shard(directory: Path, shard: Shard) -> None:
    got = check_model_file(directory, shard.file)
    if got != shard.bytes:
        raise FormatError(
            f"{directory / shard.file} has {got} bytes, the manifest says {shard.bytes}; convert or pull the model "
            "again"
        )


def verify_model(directory: Path, *, on_bytes: Callable[[int], None]) -> list[str]:
    """Check every byte of a model: files, shards, every extent through its codec, and that pyarrow opens the shards.

    Returns what is wrong, one line each; empty when all is well. `on_bytes` is told shard bytes as they are done.
    """
    from tidemill.storage.deep_check import check_extents, check_shard  # imports pyarrow

    try:
        manifest = load_manifest(directory)
    except StorageError as error:
        return [str(error)]
    problems: list[str] = []
    for index, shard in enumerate(manifest.shards):
        got = digest_file(directory / shard.file, on_bytes)
        if got != shard.checksum:
            problems.append(f"{shard.file}: checksum {got}, expected {shard.checksum}")
        problems += check_shard(directory, manifest, index)
    problems += check_extents(directory, manifest)
    for file in manifest.files:
        try:
            if digest_file(directory / file.file) != file.checksum:
                problems.append(f"{file.file}: its checksum differs from the manifest's")
        except OSError as error:
            problems.append(f"{file.file}: {error.strerror}")
    return problems
