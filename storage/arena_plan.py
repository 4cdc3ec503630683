"""How the arena's bytes are divided into slots: locked extents, ring slots for streamed extents, row slots. Pure.

Slot ids run through the three parts in that order: [0, locked) · [locked, locked + ring) · then the row slots.
"""

from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np

from tidemill.storage.ids import ExtentId, SlotId
from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest

ROW_SLOTS = 16
RING_SLOTS_MIN = 4  # below, the reader has nothing to overlap with
RING_SLOTS_MAX = (
    24  # above, more ring takes lock from every step and gives nothing: docs/decisions/0005-lock-and-ring.md
)


def align_up(byte_count: int) -> int:
    return -(-byte_count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class ArenaPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Where every slot lies in the arena region. All offsets are multiples of 4096."""

    arena_bytes: int
    locked_extents: tuple[int, ...]  # in slot order
    locked_offsets: tuple[int, ...]
    ring_offset: int
    ring_slot_bytes: int
    ring_slots: int
    row_offset: int
    row_slot_bytes: int
    row_slots: int

    @property
    def locked_slots(self) -> int:
        return len(self.locked_extents)

    @property
    def slot_count(self) -> int:
        return self.locked_slots + self.ring_slots + self.row_slots

    @cached_property
    def locked_slot_of(self) -> dict[int, SlotId]:
        return {extent: SlotId(slot) for slot, extent in enumerate(self.locked_extents)}

    def is_locked(self, extent: int) -> bool:
        return extent in self.locked_slot_of

    def offset_of(self, slot: int) -> int:
        """Byte offset of a slot in the arena region."""
        if slot < self.locked_slots:
            return self.locked_offsets[slot]
        ring_slot = slot - self.locked_slots
        if ring_slot < self.ring_slots:
            return self.ring_offset + ring_slot * self.ring_slot_bytes
        return self.row_offset + (ring_slot - self.ring_slots) * self.row_slot_bytes


class ArenaTooSmallError(ValueError):
    """The arena cannot hold what a step needs at once. `minimum_bytes` would do."""

    def __init__(self, arena_bytes: int, minimum_bytes: int) -> None:
        super().__init__(f"the arena has {arena_bytes} bytes; this model needs at least {minimum_bytes}")
        self.minimum_bytes = minimum_bytes


def always_locked(manifest: Manifest) -> tuple[ExtentId, ...]:
    """Extents that are never streamed: vectors and permutations, small and used in every layer."""
    small = {i for i, table in enumerate(manifest.tables) if table.layout in ("vector", "permutation")}
    return tuple(ExtentId(i) for i, extent in enumerate(manifest.extents) if extent.table in small)


def row_slot_bytes(manifest: Manifest) -> int:
    """Room for the checksum blocks that hold one embedding row, wherever it starts."""
    table = manifest.tables[manifest.get_table("embed")]
    block = table.checksum_block_bytes
    if block == 0:
        return align_up(max(manifest.extents[i].bytes for i in manifest.extents_of(manifest.get_table("embed"))))
    return align_up(-(-table.bundle_bytes // block) * block + block)


def plan_locked(manifest: Manifest, candidates: Sequence[int], budget_bytes: int) -> list[ExtentId]:
    """Choose extents to lock, spread evenly over `candidates` by bytes, within `budget_bytes`.

    Even spreading keeps the streamed share of every layer the same, so that reading never has to catch up with a
    streamed layer while a locked one computes (FlexInfer's balanced memory locking).
    """
    sizes = np.array([align_up(manifest.extents[i].bytes) for i in candidates], dtype=np.int64)
    total = int(sizes.sum())
    if budget_bytes >= total:
        return [ExtentId(i) for i in candidates]
    share = budget_bytes / total
    locked: list[ExtentId] = []
    locked_bytes = seen_bytes = 0
    for extent, size in zip(candidates, sizes.tolist(), strict=True):
        seen_bytes += size
        if locked_bytes + size <= seen_bytes * share:
            locked.append(ExtentId(extent))
            locked_bytes += size
    return locked


def plan_arena(manifest: Manifest, arena_bytes: int) -> ArenaPlan:
    """Divide `arena_bytes`: vectors locked, row slots, a ring, and the rest locked evenly over the layers and the head.

    A model that fits is locked whole, and the ring vanishes. Raises ArenaTooSmallError with the minimum otherwise.
    """
    fixed = always_locked(manifest)
    stream = [*manifest.layer_extents, *manifest.head_extents]
    slot_bytes = align_up(max(manifest.extents[i].bytes for i in stream))
    row_bytes = row_slot_bytes(manifest)
    rows_bytes = ROW_SLOTS * row_bytes
    fixed_bytes = sum(align_up(manifest.extents[i].bytes) for i in fixed)
    stream_bytes = sum(align_up(manifest.extents[i].bytes) for i in stream)
    minimum_bytes = fixed_bytes + rows_bytes + RING_SLOTS_MIN * slot_bytes
    free_bytes = arena_bytes - fixed_bytes - rows_bytes
    if free_bytes >= stream_bytes:
        locked, ring_slots = [*fixed, *(ExtentId(i) for i in stream)], 0
        untied = [] if manifest.decoder.tied_head else [*manifest.extents_of(manifest.get_table("embed"))]
        untied_bytes = sum(align_up(manifest.extents[i].bytes) for i in untied)
        if free_bytes - stream_bytes >= untied_bytes:
            locked += [ExtentId(i) for i in untied]
    elif arena_bytes < minimum_bytes:
        raise ArenaTooSmallError(arena_bytes, minimum_bytes)
    else:
        ring_slots = min(RING_SLOTS_MAX, max(RING_SLOTS_MIN, free_bytes // (4 * slot_bytes)))
        locked = [*fixed, *plan_locked(manifest, stream, free_bytes - ring_slots * slot_bytes)]
    offsets: list[int] = []
    offset = 0
    for extent in locked:
        offsets.append(offset)
        offset += align_up(manifest.extents[extent].bytes)
    row_offset = offset + ring_slots * slot_bytes
    return ArenaPlan(
        arena_bytes=row_offset + rows_bytes,
        locked_extents=tuple(locked),
        locked_offsets=tuple(offsets),
        ring_offset=offset,
        ring_slot_bytes=slot_bytes,
        ring_slots=ring_slots,
        row_offset=row_offset,
        row_slot_bytes=row_bytes,
        row_slots=ROW_SLOTS,
    )
