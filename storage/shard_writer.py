"""Writes one shard: an Arrow IPC file of one record batch per extent, each body on a multiple of 4096."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import xxhash

from tidemill.storage.codecs.codec import Bytes
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest import ALIGNMENT_BYTES

SCHEMA = pa.schema([pa.field("bytes", pa.uint8(), nullable=False)], metadata={"tidemill": "shard 1"})
MAGIC_BYTES = 8
TakeSpace = Callable[[int], None]
PREFIX_BYTES = 8  # 0xFFFFFFFF and the i32 length of the metadata


class _HashingFile:
    """What pyarrow writes to: counts and hashes on the way to the file."""

    closed = False

    def __init__(self, file: BinaryIO, take_space: TakeSpace) -> None:
        self._file = file
        self._take_space = take_space
        self._hash = xxhash.xxh3_64()
        self.position = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self._take_space(len(view))
        self._file.write(view)
        self._hash.update(view)
        self.position += len(view)
        return len(view)

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """The owner of the file closes it."""

    @property
    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class ShardWriter:
    """A context manager: on success the file is complete, synced and under its name; on an error nothing is left."""

    def __init__(self, path: Path, *, take_space: TakeSpace = lambda _: None) -> None:
        """`take_space` is told of each write before it is done; an OSError that it raises is the write's."""
        self._path = path
        self._temporary = path.with_suffix(".writing")
        self._file = self._temporary.open("wb")
        self._sink = _HashingFile(self._file, take_space)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), SCHEMA)

    def __enter__(self) -> "ShardWriter":
        return self

    def append(self, stored: Bytes, *, label: str) -> int:
        """Write one extent; returns the offset of its first byte. `label` is for people who open the file with
        pyarrow."""
        batch = pa.record_batch([pa.array(np.ascontiguousarray(stored))], schema=SCHEMA)
        try:
            offset = self._write_aligned(batch, label)
        except OSError as error:
            raise write_error(self._path, error) from error
        return offset

    def _write_aligned(self, batch: pa.RecordBatch, label: str) -> int:
        # pyarrow writes the magic and the schema together with the first batch.
        start = self._sink.position or MAGIC_BYTES + _schema_bytes()
        metadata = {"extent": label, "pad": ""}
        length = _metadata_bytes(metadata)
        missing = -(start + PREFIX_BYTES + length) % ALIGNMENT_BYTES
        if missing:
            metadata["pad"] = _pad_for(metadata, length + missing)
        self._writer.write_batch(batch, custom_metadata=metadata)
        return start + PREFIX_BYTES + length + missing

    def finish(self) -> tuple[int, str]:
        """Close the Arrow file, sync it and give it its name; returns its size and checksum."""
        try:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error
        self._file.close()
        self._temporary.replace(self._path)
        return self._sink.position, self._sink.hexdigest

    def __exit__(self, *exc_info: object) -> None:
        if not self._file.closed:
            try:
                self._file.close()
            except OSError:
                pass  # the disk is full: what was buffered is lost, and the file with it
            self._temporary.unlink(missing_ok=True)


def _schema_bytes() -> int:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, SCHEMA).close()
    return int(sink.tell()) - PREFIX_BYTES  # without the end-of-stream mark


def _metadata_bytes(metadata: dict[str, str]) -> int:
    """Length of the message header that a batch with this metadata gets, found by writing a batch of one byte:
    lengths and offsets have a fixed size in the header, so it is the same for every batch."""
    batch = pa.record_batch([pa.array([0], pa.uint8())], schema=SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(batch, custom_metadata=metadata)
    start = _schema_bytes() + 4
    return int.from_bytes(sink.getvalue()[start : start + 4].to_pybytes(), "little")


def _pad_for(metadata: dict[str, str], target: int) -> str:
    """The pad that makes the header `target` bytes long; header lengths come in steps of 8."""
    missing = target - _metadata_bytes(metadata)
    for length in range(missing + 8, max(0, missing - 16), -1):
        if _metadata_bytes({**metadata, "pad": "." * length}) == target:
            return "." * length
    raise AssertionError(f"no pad makes a message header of {target} bytes")


def write_error(path: Path, error: OSError) -> DeviceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DeviceError(
            f"no space left while writing {path} ({error.strerror}); free some space and run the same command "
            "again: it goes "
            "on where it stopped"
        )
    return DeviceError(f"cannot write {path}: {error.strerror or error}")
