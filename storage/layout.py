"""Cuts tables into extents and extents into shards. Pure: the same tables always give the same plan."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Table

EXTENT_BYTES = 2 << 20  # of the largest plane; a read costs half a millisecond of some core whatever its size
SHARD_BYTES = 1 << 30  # the unit that an interrupted conversion does again


class ExtentPlan(NamedTuple):
    """Bundles [start, stop) of a table. With several planes each becomes one extent per plane."""

    table: TableId
    start: int
    stop: int


def cut_table(table: Table, extent_bytes: int) -> list[tuple[int, int]]:
    """The fewest runs of whole channels (a bundle of each layer of the group) whose largest plane has at most
    `extent_bytes` (at least one channel each), of even size."""
    per_extent = max(1, extent_bytes // (table.layers * max(plane.bundle_bytes for plane in table.planes)))
    count = -(-table.channel_count // per_extent)
    edges = [table.channel_count * i // count * table.layers for i in range(count + 1)]
    return list(pairwise(edges))


def plan_shards(
    tables: Sequence[Table], *, extent_bytes: int = EXTENT_BYTES, shard_bytes: int = SHARD_BYTES
) -> tuple[tuple[ExtentPlan, ...], ...]:
    """The extents of each shard, tables in order, each shard at most `shard_bytes` of decoded weights (one extent at
    least)."""
    shards: list[tuple[ExtentPlan, ...]] = []
    current: list[ExtentPlan] = []
    current_bytes = 0
    for index, table in enumerate(tables):
        for start, stop in cut_table(table, extent_bytes):
            size = (stop - start) * table.bundle_bytes
            if current and current_bytes + size > shard_bytes:
                shards.append(tuple(current))
                current, current_bytes = [], 0
            current.append(ExtentPlan(TableId(index), start, stop))
            current_bytes += size
    if current:
        shards.append(tuple(current))
    return tuple(shards)
