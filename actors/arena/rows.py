"""Reading single rows of a table: which bytes of which extent, and where in the slot the row then lies."""

from typing import NamedTuple

from tidemill.storage.ids import ExtentId, SlotId, TableId
from tidemill.storage.manifest import Manifest


class RowRead(NamedTuple):
    """`stored_bytes` from byte `start` of an extent; the row begins `offset_in_slot` bytes into what was read."""

    extent: ExtentId
    start: int
    stored_bytes: int
    offset_in_slot: int


def plan_row_read(manifest: Manifest, table_id: int, bundle: int) -> RowRead:
    """The whole checksum blocks that hold one bundle, so that what is computed on has been verified.

    A table without blocks (a compressed one) is read by the whole extent.
    """
    table = manifest.tables[table_id]
    extent_id = manifest.extent_at(TableId(table_id), bundle)
    extent = manifest.extents[extent_id]
    row_start = (bundle - extent.bundle_start) * table.bundle_bytes
    block = table.checksum_block_bytes
    if block == 0:
        return RowRead(extent_id, 0, extent.stored_bytes, row_start)
    start = row_start // block * block
    stop = min(extent.stored_bytes, -(-(row_start + table.bundle_bytes) // block) * block)
    return RowRead(extent_id, start, stop - start, row_start - start)


class RowDemand:
    """The rows of one DemandRows on their way: where each will lie, and which have arrived."""

    def __init__(self, request: int, count: int) -> None:
        self.request = request
        self._places: list[tuple[SlotId, int]] = [(SlotId(0), 0)] * count
        self._generations: list[int | None] = [None] * count

    def expect(self, place: int, slot: SlotId, offset_in_slot: int) -> None:
        self._places[place] = (slot, offset_in_slot)

    def arrived(self, place: int, generation: int) -> None:
        self._generations[place] = generation

    @property
    def complete(self) -> bool:
        return None not in self._generations

    def placed(self) -> list[tuple[int, int, int]]:
        """(slot, generation, byte offset in the slot) of each row, in the order of the demand."""
        return [
            (slot, generation or 0, offset)
            for (slot, offset), generation in zip(self._places, self._generations, strict=True)
        ]
