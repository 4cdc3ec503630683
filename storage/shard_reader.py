"""Reads extents into memory the simple way: synchronously, buffered, verified. For tools and tests; the reader actor
has devices for the hot path."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import verify_blocks
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest


def read_stored(directory: Path, manifest: Manifest, extent_id: int) -> bytes:
    """The verified stored bytes of one extent. Raises CorruptDataError."""
    extent = manifest.extents[extent_id]
    path = directory / manifest.shards[extent.shard].file
    with path.open("rb") as file:
        file.seek(extent.offset)
        stored = file.read(extent.stored_bytes)
    where = f"{path} at offset {extent.offset}"
    if len(stored) != extent.stored_bytes:
        raise CorruptDataError(f"{where}: the file ends after {len(stored)} bytes, expected {extent.stored_bytes}")
    block = manifest.tables[extent.table].checksum_block_bytes
    verify_blocks(stored, tuple(int(digest, 16) for digest in extent.checksums), block, where)
    return stored


def load_extents(
    directory: Path, manifest: Manifest, extents: Iterable[int], arena: npt.NDArray[np.uint8], offsets: Sequence[int]
) -> None:
    """Decode extents to the given byte offsets of `arena`."""
    for extent_id, offset in zip(extents, offsets, strict=True):
        extent = manifest.extents[extent_id]
        plane = manifest.tables[extent.table].planes[extent.plane]
        stored = memoryview(read_stored(directory, manifest, extent_id))
        out = arena[offset : offset + extent.bytes].data
        get_codec(plane.codec).decode(extent.plane, stored, out)


def read_bundles(directory: Path, manifest: Manifest, first: int) -> npt.NDArray[np.uint8]:
    """The bundles of a run, uint8 [N, bundle_bytes], all planes joined; `first` is its extent of plane 0.

    Raises CorruptDataError.
    """
    table = manifest.tables[manifest.extents[first].table]
    codec = get_codec(table.planes[0].codec)
    planes: list[npt.NDArray[np.uint8]] = []
    for index in range(first, first + len(table.planes)):
        extent = manifest.extents[index]
        placed = np.empty(extent.bytes, np.uint8)
        load_extents(directory, manifest, [index], placed, [0])
        codec.check(extent.plane, placed.data, table, extent.bundle_stop - extent.bundle_start)
        codec.verify(placed, table, TableId(extent.table), extent.bundle_start)
        planes.append(placed)
    return codec.join(planes, table, manifest.extents[first].exponent_base)


def read_table(directory: Path, manifest: Manifest, table_id: TableId) -> npt.NDArray[np.uint8]:
    """All bundles of a table, uint8 [bundle_count, bundle_bytes], in stored order."""
    extents = manifest.extents_of(table_id)[:: manifest.planes_of(table_id)]
    return np.concatenate([read_bundles(directory, manifest, first) for first in extents])


def read_permutation(
    directory: Path, manifest: Manifest, table_id: TableId, layer: int | None = None
) -> npt.NDArray[np.uint32]:
    """Source index of each stored neuron of a table in one of its layers (None: its first), u32 [ff_size]; the identity
    for a table without a permutation.

    Raises CorruptDataError when the stored one is not a permutation.
    """
    table = manifest.tables[table_id]
    permutation = manifest.permutation_of(table_id, table.layer if layer is None else layer)
    if permutation is None:
        return np.arange(table.channel_count, dtype=np.uint32)
    order = read_table(directory, manifest, permutation).reshape(-1).view("<u4")
    if not np.array_equal(np.sort(order), np.arange(len(order))):
        raise CorruptDataError(f"{directory}: table {permutation} is not a permutation of {len(order)} neurons")
    return order
