"""The closed set of errors about bytes on flash. Each text says what, where, expected, got and what to do."""

import errno
import os
from typing import Literal

# transient: the same read may well succeed. corrupt: bytes came, but not those that were written; if they were damaged
# on the way, the next read brings others. final: trying again brings the same.
FailureKind = Literal["transient", "corrupt", "final"]
TRANSIENT_ERRNOS = frozenset(
    {errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.ENOMEM, errno.ENOBUFS}
)


class StorageError(Exception):
    """Base of everything that storage raises on bad input or a bad world. `gather_read`: of a gather, which of its
    reads it befell, where that is known."""

    gather_read: int | None = None


class FormatError(StorageError):
    """A manifest or shard breaks the format (docs/format.md): missing field, wrong range, overlap, bad path."""


class VersionError(FormatError):
    """The format version is not one that this program reads."""


class CorruptDataError(StorageError):
    """Bytes do not have the checksum that the manifest holds for them."""


class UnsupportedModelError(StorageError):
    """A source model whose family, tensors or element types cannot be converted; lists what can."""


class SourceError(StorageError):
    """A source file is damaged, incomplete or inconsistent (missing tensor, wrong shape)."""


class DeviceError(StorageError):
    """The device refused or failed a read or a write (I/O error, short read, no space)."""

    def __init__(self, message: str, *, is_transient: bool = False) -> None:
        super().__init__(message)
        self.is_transient = is_transient


def read_error(where: str, number: int) -> DeviceError:
    """Of a read that the system refused; `where`: the file and the offset in it."""
    name = errno.errorcode.get(number, str(number))
    return DeviceError(f"{where}: {os.strerror(number)} ({name})", is_transient=number in TRANSIENT_ERRNOS)


def short_read_error(file: str, offset: int, *, needed: int, reached: int, file_bytes: int) -> DeviceError:
    """Of a read that ended early: at the end of the file, or before."""
    end = offset + reached
    if file_bytes >= offset + needed:
        return DeviceError(
            f"{file}: a read of {needed} bytes from offset {offset} ended early, at {end}, though the file goes on to "
            f"{file_bytes}",
            is_transient=True,
        )
    return DeviceError(f"{file} ends at offset {end}, expected {needed} bytes from {offset}; the file is truncated")


def failure_kind(error: Exception) -> FailureKind:
    match error:
        case DeviceError(is_transient=True):
            return "transient"
        case CorruptDataError():
            return "corrupt"
        case OSError(errno=number) if number in TRANSIENT_ERRNOS:
            return "transient"
        case _:
            return "final"
