"""Finds rows of the embedding that lie in the arena already, so that they need not be asked for."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.elements import widen_array
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest

F32 = npt.NDArray[np.float32]


class EmbeddingRows:
    """Looks into `embed`, and into the head where that is tied to it: the same rows, perhaps in planes."""

    def __init__(self, manifest: Manifest, arena: npt.NDArray[np.uint8], placement: Placement) -> None:
        embed = manifest.get_table("embed")
        tables = {embed, manifest.head_table} if manifest.decoder.tied_head else {embed}
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._starts = {
            table: np.array([manifest.extents[i].bundle_start for i in self._first_planes(table)]) for table in tables
        }

    def find(self, token: int) -> F32 | None:
        """One row as f32; None when no table of it is in the arena."""
        for table, starts in self._starts.items():
            run = int(np.searchsorted(starts, token, side="right")) - 1
            first = self._first_planes(table)[run]
            extents = range(first, first + self._manifest.planes_of(table))
            if self._placement.offsets[extents].min() != NOT_RESIDENT:
                return self._read(table, extents, token)
        return None

    def _first_planes(self, table: TableId) -> range:
        return self._manifest.extents_of(table)[:: self._manifest.planes_of(table)]

    def _read(self, table_id: TableId, extents: range, token: int) -> F32:
        table, extent = self._manifest.tables[table_id], self._manifest.extents[extents[0]]
        codec, place = get_codec(table.planes[0].codec), token - extent.bundle_start
        planes = [self._arena[at : at + self._manifest.extents[i].bytes] for i, at in self._places(extents)]
        row = codec.join_bundle(planes, table, extent.exponent_base, place)
        return widen_array(row, table.element)

    def _places(self, extents: range) -> list[tuple[int, int]]:
        return [(i, int(self._placement.offsets[i])) for i in extents]
