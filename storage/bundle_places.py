"""Where the bundles of a self-contained table lie on flash. Knows nothing of reads."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.errors import FormatError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest

Ints = npt.NDArray[np.int64]


class FlashPlaces(NamedTuple):
    """Of N bundles: index of the shard, offset of the first byte in it. Rising with the bundle ids."""

    shards: Ints
    offsets: Ints


class BundlePlaces:
    """`bundle_bytes` is what every bundle of the table has, on flash and in the arena."""

    def __init__(self, manifest: Manifest, table_id: TableId) -> None:
        """Raises FormatError for a table whose bundles can't be read one by one."""
        table = manifest.tables[table_id]
        if not table.is_self_contained:
            raise FormatError(
                f"table {table_id} ({table.role} of layer {table.layer}) is stored as {table.planes[0].codec}, whose "
                "bundles cannot be read one by one; convert the model with a --layout that has them"
            )
        extents = [manifest.extents[i] for i in manifest.extents_of(table_id)]
        self.bundle_bytes = table.planes[0].bundle_bytes
        self.bundle_count = table.bundle_count
        self._starts = np.array([extent.bundle_start for extent in extents], np.int64)
        self._shards = np.array([extent.shard for extent in extents], np.int64)
        # of a bundle 0 that each extent's run would begin with
        self._origins = np.array([e.offset - e.bundle_start * self.bundle_bytes for e in extents], np.int64)

    def find(self, bundles: Ints) -> FlashPlaces:
        """Ids of [0, bundle_count)."""
        extents = np.searchsorted(self._starts, bundles, side="right") - 1
        return FlashPlaces(self._shards[extents], self._origins[extents] + bundles * self.bundle_bytes)
