"""Rows of the embedding: those that lie in the arena already need not be asked for."""

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.elements import widen_array
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.step_events import RowsNeeded, StepEvent
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest

F32 = npt.NDArray[np.float32]


class EmbeddingRows:
    """Looks into `embed`, and into the head where that is tied to it: the same rows, perhaps in planes."""

    def __init__(self, manifest: Manifest, arena: npt.NDArray[np.uint8], placement: Placement, row_slots: int) -> None:
        """`row_slots`: most rows asked for at a time."""
        embed = manifest.get_table("embed")
        tables = {embed, manifest.head_table} if manifest.decoder.tied_head else {embed}
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._row_slots = row_slots
        self._starts = {
            table: np.array([manifest.extents[i].bundle_start for i in self._first_planes(table)]) for table in tables
        }

    def embed(
        self, token_ids: Sequence[int], residual: F32, *, coarse: bool = False
    ) -> Generator[StepEvent, object, None]:
        """Rows into the residual stream [B, hidden]: from the tables in the arena, else by request. `coarse`: what
        plane 0 alone says of a row will do where no more is in the arena."""
        scale = np.float32(self._manifest.decoder.embed_scale)
        unique, places = np.unique(np.asarray(token_ids, np.uint32), return_inverse=True)
        missing: list[int] = []
        for i, token in enumerate(unique.tolist()):
            row = self._find(token)
            if row is None and coarse:
                row = self._find_coarse(token)
            if row is None:
                missing.append(i)
            else:
                residual[places == i] = row * scale
        table_id = self._manifest.get_table("embed")
        table = self._manifest.tables[table_id]
        for first in range(0, len(missing), self._row_slots):
            wanted = missing[first : first + self._row_slots]
            offsets = yield RowsNeeded(table_id, unique[wanted])
            assert isinstance(offsets, np.ndarray)
            for i, at in zip(wanted, offsets.tolist(), strict=True):
                stored = self._arena[at : at + table.bundle_bytes]
                residual[places == i] = widen_array(stored, table.element) * scale

    def _find(self, token: int) -> F32 | None:
        """One row as f32; None when no table of it is in the arena."""
        for table, extents in self._extents_of(token):
            if self._placement.offsets[extents].min() != NOT_RESIDENT:
                return self._read(table, extents, token)
        return None

    def _find_coarse(self, token: int) -> F32 | None:
        """As `_find`, of plane 0 alone."""
        for table, extents in self._extents_of(token):
            if self._placement.offsets[extents[0]] != NOT_RESIDENT:
                return self._read(table, extents[:1], token)
        return None

    def _extents_of(self, token: int) -> Iterator[tuple[TableId, range]]:
        """Of each table that has the row: all planes of the run that it is in."""
        for table, starts in self._starts.items():
            run = int(np.searchsorted(starts, token, side="right")) - 1
            first = self._first_planes(table)[run]
            yield table, range(first, first + self._manifest.planes_of(table))

    def _first_planes(self, table: TableId) -> range:
        return self._manifest.extents_of(table)[:: self._manifest.planes_of(table)]

    def _read(self, table_id: TableId, extents: range, token: int) -> F32:
        table, extent = self._manifest.tables[table_id], self._manifest.extents[extents[0]]
        codec, place = get_codec(table.planes[0].codec), token - extent.bundle_start
        planes = [self._arena[at : at + self._manifest.extents[i].bytes] for i, at in self._places(extents)]
        join = codec.join_bundle if len(planes) == len(table.planes) else codec.join_coarse
        row = join(planes, table, extent.exponent_base, place)
        return widen_array(row, table.element)

    def _places(self, extents: range) -> list[tuple[int, int]]:
        return [(i, int(self._placement.offsets[i])) for i in extents]
