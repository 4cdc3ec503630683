"""The closed set of errors about bytes on flash. Each text says what, where, expected, got and what to do."""


class StorageError(Exception):
    """Base of everything that storage raises on bad input or a bad world."""


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
