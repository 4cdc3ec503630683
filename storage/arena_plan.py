"""How the arena's bytes are divided into slots: locked extents, rings for streamed extents, row slots, and pools of
single bundles (bundle_plan.py). Pure.

What is locked is spread evenly over layers and head, or is plane 0 of all of them first: the coarse weights that drafts
are computed with. Either way as many bytes are locked, so a step without drafts streams the same.

Slot ids run through the parts in that order: [0, locked) · the slots of each ring · then the row slots. There is a ring
for each plane, as extents of different planes have different sizes: slots of a ring are equal.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from tidemill.storage.bundle_plan import (
    PRELOAD_SHARE,
    BundlePlan,
    bundle_tables,
    least_bundle_bytes,
    plan_bundles,
    whole_bundle_bytes,
)
from tidemill.storage.ids import ExtentId, SlotId, TableId
from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest

ROW_SLOTS = 16
RING_SLOTS_MIN = 4  # below, the reader has nothing to overlap with
RING_BYTES_MAX = 24 << 20  # above, more ring takes lock from every step and gives nothing: docs/decisions/0005
LockFirst = Literal["even", "plane-0"]


def align_up(byte_count: int) -> int:
    return -(-byte_count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class Ring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal slots for the streamed extents of one plane; none when all of them are locked."""

    offset: int
    slot_bytes: int
    slots: int


class ArenaPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Where every slot lies in the arena region. All offsets are multiples of 4096."""

    arena_bytes: int
    locked_extents: tuple[int, ...]  # in slot order
    locked_offsets: tuple[int, ...]
    rings: tuple[Ring, ...]  # by plane
    row_offset: int
    row_slot_bytes: int
    row_slots: int
    bundles: BundlePlan = BundlePlan()

    @property
    def locked_slots(self) -> int:
        return len(self.locked_extents)

    @property
    def ring_slots(self) -> int:
        return sum(ring.slots for ring in self.rings)

    @property
    def ring_bytes(self) -> int:
        return sum(ring.slots * ring.slot_bytes for ring in self.rings)

    @cached_property
    def locked_slot_of(self) -> dict[int, SlotId]:
        return {extent: SlotId(slot) for slot, extent in enumerate(self.locked_extents)}

    def is_locked(self, extent: int) -> bool:
        return extent in self.locked_slot_of

    def offset_of(self, slot: int) -> int:
        """Byte offset of a slot in the arena region."""
        if slot < self.locked_slots:
            return self.locked_offsets[slot]
        place = slot - self.locked_slots
        for ring in self.rings:
            if place < ring.slots:
                return ring.offset + place * ring.slot_bytes
            place -= ring.slots
        return self.row_offset + place * self.row_slot_bytes


class ArenaTooSmallError(ValueError):
    """The arena cannot hold what a step needs at once. `minimum_bytes` would do."""

    def __init__(self, arena_bytes: int, minimum_bytes: int) -> None:
        super().__init__(f"the arena has {arena_bytes} bytes; this model needs at least {minimum_bytes}")
        self.minimum_bytes = minimum_bytes


def always_locked(manifest: Manifest, resident_from: int | None = None) -> tuple[ExtentId, ...]:
    """Extents that are never streamed: vectors and permutations, small and used in every layer; and all from the id
    `resident_from` on, those of a draft model."""
    small = {i for i, table in enumerate(manifest.tables) if table.layout in ("vector", "permutation")}
    first = len(manifest.extents) if resident_from is None else resident_from
    return tuple(ExtentId(i) for i, extent in enumerate(manifest.extents) if extent.table in small or i >= first)


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


def plan_arena(
    manifest: Manifest,
    arena_bytes: int,
    *,
    lock_first: LockFirst = "even",
    resident_from: int | None = None,
    preload_share: float = PRELOAD_SHARE,
) -> ArenaPlan:
    """Divide `arena_bytes`: what is always locked, row slots, a ring, and the rest locked, evenly over the layers and
    the head or plane 0 first.

    A model that fits is locked whole, and the ring vanishes. Tables of self-contained bundles have no part in lock and
    ring: their pools get what is left beside the other matrices, which every token uses whole, but at least their
    reserves. Raises ArenaTooSmallError with the minimum otherwise.
    """
    fixed = always_locked(manifest, resident_from)
    apart = bundle_tables(manifest)
    stream = _streamable(manifest)
    rows_bytes = ROW_SLOTS * row_slot_bytes(manifest)
    free_bytes = arena_bytes - _bytes_of(manifest, fixed) - rows_bytes
    least_bytes = least_bundle_bytes(manifest)
    stream_bytes = _bytes_of(manifest, stream)
    if free_bytes >= stream_bytes + least_bytes:
        locked, rings = [*fixed, *(ExtentId(i) for i in stream)], _rings(manifest, [], 0)
        left_bytes = free_bytes - stream_bytes
        embed = manifest.get_table("embed")
        rows = [] if manifest.decoder.tied_head else [*manifest.extents_of(embed)]  # a tied head gives rows too
        if left_bytes - whole_bundle_bytes(manifest) >= _bytes_of(manifest, rows):
            locked += [ExtentId(i) for i in rows]
            left_bytes -= _bytes_of(manifest, rows)
    else:
        minimum_bytes = least_arena_bytes(manifest, lock_first, resident_from)
        if arena_bytes < minimum_bytes:
            raise ArenaTooSmallError(arena_bytes, minimum_bytes)
        left_bytes = least_bytes
        chosen, rings = _lock_and_ring(manifest, stream, free_bytes - least_bytes, lock_first)
        locked = [*fixed, *chosen]
    plan = _place(manifest, locked, rings, rows_bytes)
    if not apart:
        return plan
    bundles = plan_bundles(manifest, left_bytes, plan.arena_bytes, preload_share=preload_share)
    return msgspec.structs.replace(plan, bundles=bundles, arena_bytes=plan.arena_bytes + bundles.arena_bytes)


def least_arena_bytes(manifest: Manifest, lock_first: LockFirst = "even", resident_from: int | None = None) -> int:
    """The smallest arena that `plan_arena` divides."""
    stream = _streamable(manifest)
    first, rest = _divide(manifest, stream, lock_first)
    ring_bytes = _ring_bytes(_rings(manifest, rest, RING_SLOTS_MIN))
    moving_bytes = min(_bytes_of(manifest, first) + ring_bytes, _bytes_of(manifest, stream))
    fixed_bytes = _bytes_of(manifest, always_locked(manifest, resident_from)) + ROW_SLOTS * row_slot_bytes(manifest)
    return fixed_bytes + moving_bytes + least_bundle_bytes(manifest)


def has_planes(manifest: Manifest) -> bool:
    """Whether layers and head are read whole and have weights in two planes: plane 0 alone is a coarse model. Tables
    that planes do not suit are all plane 0."""
    return manifest.layout == "dense" and any(manifest.extents[i].plane > 0 for i in _streamable(manifest))


def plane_bytes(manifest: Manifest, plane: int) -> int:
    """What one plane of layers and head takes in an arena; where there is but one, that is plane 0."""
    return _bytes_of(manifest, [i for i in _streamable(manifest) if manifest.extents[i].plane == plane])


def holds_plane_0(manifest: Manifest, plan: ArenaPlan) -> bool:
    """Whether the coarse weights of all layers and the head are locked."""
    return all(manifest.extents[i].plane > 0 or plan.is_locked(i) for i in _streamable(manifest))


def streamed_ranges(manifest: Manifest) -> tuple[tuple[int, int], ...]:
    """[start, stop) of the layers' extents that go through lock and ring, in order: all but those of tables whose
    bundles come one by one."""
    apart = bundle_tables(manifest)
    ranges: list[tuple[int, int]] = []
    for i in manifest.layer_extents:
        if manifest.extents[i].table in apart:
            continue
        if ranges and ranges[-1][1] == i:
            ranges[-1] = (ranges[-1][0], i + 1)
        else:
            ranges.append((i, i + 1))
    return tuple(ranges)


def _streamable(manifest: Manifest) -> list[int]:
    """The extents that lock and ring are for, in compute order."""
    apart = bundle_tables(manifest)
    return [i for i in (*manifest.layer_extents, *manifest.head_extents) if manifest.extents[i].table not in apart]


def _divide(manifest: Manifest, stream: Sequence[int], lock_first: LockFirst) -> tuple[list[int], list[int]]:
    """What has to be locked, and what lock and ring share."""
    first = [i for i in stream if lock_first == "plane-0" and manifest.extents[i].plane == 0]
    rest = [i for i in stream if lock_first == "even" or manifest.extents[i].plane > 0]
    return first, rest


def _lock_and_ring(
    manifest: Manifest, stream: Sequence[int], free_bytes: int, lock_first: LockFirst
) -> tuple[list[ExtentId], list[Ring]]:
    """`free_bytes` is less than all of `stream`, and enough for what has to be locked and the smallest rings."""
    first, rest = _divide(manifest, stream, lock_first)
    one_each = _ring_bytes(_rings(manifest, rest, 1))
    room_bytes = free_bytes - _bytes_of(manifest, first)
    most_bytes = min(RING_BYTES_MAX, free_bytes // 4, room_bytes // (2 if first else 1))
    slots = max(RING_SLOTS_MIN, most_bytes // one_each)
    locked = {*first, *plan_locked(manifest, rest, room_bytes - slots * one_each)}
    return [ExtentId(i) for i in stream if i in locked], _rings(manifest, rest, slots)


def _ring_bytes(rings: Sequence[Ring]) -> int:
    return sum(ring.slots * ring.slot_bytes for ring in rings)


def _bytes_of(manifest: Manifest, extents: Sequence[int]) -> int:
    return sum(align_up(manifest.extents[i].bytes) for i in extents)


def _rings(manifest: Manifest, stream: Sequence[int], slots: int) -> list[Ring]:
    """One ring for each plane, not placed yet."""
    largest = [0] * max(manifest.planes_of(TableId(i)) for i in range(len(manifest.tables)))
    for i in stream:
        extent = manifest.extents[i]
        largest[extent.plane] = max(largest[extent.plane], align_up(extent.bytes))
    return [Ring(0, size, slots if size else 0) for size in largest]


def _place(manifest: Manifest, locked: Sequence[ExtentId], rings: Sequence[Ring], rows_bytes: int) -> ArenaPlan:
    offsets: list[int] = []
    offset = 0
    for extent in locked:
        offsets.append(offset)
        offset += align_up(manifest.extents[extent].bytes)
    placed: list[Ring] = []
    for ring in rings:
        placed.append(Ring(offset, ring.slot_bytes, ring.slots))
        offset += ring.slots * ring.slot_bytes
    return ArenaPlan(
        arena_bytes=offset + rows_bytes,
        locked_extents=tuple(locked),
        locked_offsets=tuple(offsets),
        rings=tuple(placed),
        row_offset=offset,
        row_slot_bytes=row_slot_bytes(manifest),
        row_slots=ROW_SLOTS,
    )
