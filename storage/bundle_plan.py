"""Where single bundles lie in the arena: pools of equal slots, and how many slots each layer of a table may keep. Pure.

A pool holds, for each layer of its tables, what residency keeps (the *quota*), and besides what is on its way: room for
the largest visit (the *reserve*) and for what is preloaded.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest, Table

PRELOAD_SHARE = 0.25  # at most, of what is left beside reserves and locked layers: room for what is read ahead
READ_AHEAD_SHARE = 0.05  # where nothing is preloaded: a dense step still reads its next table ahead


class BundlePool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`slots` slots of `slot_bytes`, from byte `offset` of the arena region (a multiple of 4096)."""

    offset: int
    slot_bytes: int
    slots: int


class CachedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of self-contained bundles: its pool, and for each of its layers how many of its `channels` may stay."""

    table: int
    pool: int
    channels: int
    quotas: tuple[int, ...]


class BundlePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Empty for models without such tables."""

    pools: tuple[BundlePool, ...] = ()
    tables: tuple[CachedTable, ...] = ()

    @cached_property
    def pool_of(self) -> Mapping[int, BundlePool]:
        """By table."""
        return {cached.table: self.pools[cached.pool] for cached in self.tables}

    @property
    def arena_bytes(self) -> int:
        return sum(_pages(pool.slots * pool.slot_bytes) for pool in self.pools)

    @property
    def cached_share(self) -> float:
        """Of all bundles' bytes, how many the quotas hold."""
        sizes = [self.pools[cached.pool].slot_bytes for cached in self.tables]
        held = sum(size * sum(cached.quotas) for size, cached in zip(sizes, self.tables, strict=True))
        total = sum(
            size * cached.channels * len(cached.quotas) for size, cached in zip(sizes, self.tables, strict=True)
        )
        return held / total if total else 1.0


def bundle_tables(manifest: Manifest) -> Mapping[int, Table]:
    return {i: table for i, table in enumerate(manifest.tables) if table.is_self_contained}


def slot_bytes(table: Table) -> int:
    return table.planes[0].bundle_bytes


def least_bundle_bytes(manifest: Manifest) -> int:
    """What a step needs at once: the reserves."""
    tables = bundle_tables(manifest)
    return sum(_pages(size * _reserve(tables, size)) for size in _sizes(tables))


def whole_bundle_bytes(manifest: Manifest) -> int:
    """What holds every bundle for good."""
    tables = bundle_tables(manifest)
    return sum(_pages(size * _count(tables, size)) for size in _sizes(tables))


def plan_bundles(
    manifest: Manifest, budget_bytes: int, offset: int, *, preload_share: float = PRELOAD_SHARE
) -> BundlePlan:
    """Divide `budget_bytes`, at least `least_bundle_bytes`, from byte `offset` of the arena on.

    The first layer group is kept whole where that takes at most half of what reserves leave: nothing of its token is
    known before it, so it cannot be preloaded. Every other layer may keep the same share of its bundles.
    """
    tables = bundle_tables(manifest)
    if budget_bytes >= whole_bundle_bytes(manifest):
        quotas = {i: (table.channel_count,) * table.layers for i, table in tables.items()}
        return _place(tables, quotas, dict.fromkeys(_sizes(tables), 0), offset)
    extra = budget_bytes - least_bundle_bytes(manifest)
    first = {i for i, table in tables.items() if table.layer == 0}
    locked_bytes = sum(tables[i].bundle_count * slot_bytes(tables[i]) for i in first)
    if 2 * locked_bytes > extra:
        first, locked_bytes = set(), 0
    free = extra - locked_bytes
    rest = sum(table.bundle_count * slot_bytes(table) for i, table in tables.items() if i not in first)
    total = sum(size * _count(tables, size) for size in _sizes(tables))
    ahead = {
        size: min(int(preload_share * free * _count(tables, size) / total), _ahead(tables, size))
        for size in _sizes(tables)
    }
    share = min(1.0, (free - sum(size * count for size, count in ahead.items())) / rest)
    quotas = {
        i: (table.channel_count if i in first else int(share * table.channel_count),) * table.layers
        for i, table in tables.items()
    }
    spare = {size: _reserve(tables, size) + count for size, count in ahead.items()}
    return _place(tables, quotas, spare, offset)


def _sizes(tables: Mapping[int, Table]) -> Sequence[int]:
    return sorted({slot_bytes(table) for table in tables.values()})


def _reserve(tables: Mapping[int, Table], size: int) -> int:
    return max(table.channel_count for table in tables.values() if slot_bytes(table) == size)


def _ahead(tables: Mapping[int, Table], size: int) -> int:
    """The most that is read ahead at once: of each role the next table, of one of a layer group the rest of this one
    too."""
    most = {table.role: 0 for table in tables.values() if slot_bytes(table) == size}
    for table in tables.values():
        if slot_bytes(table) == size:
            most[table.role] = max(most[table.role], table.bundle_count * (2 if table.layers > 1 else 1))
    return sum(most.values())


def _count(tables: Mapping[int, Table], size: int) -> int:
    return sum(table.bundle_count for table in tables.values() if slot_bytes(table) == size)


def _pages(byte_count: int) -> int:
    return -(-byte_count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _place(
    tables: Mapping[int, Table], quotas: Mapping[int, tuple[int, ...]], spare: Mapping[int, int], offset: int
) -> BundlePlan:
    """`spare`: slots beside the quotas, by slot size."""
    pools: list[BundlePool] = []
    number: dict[int, int] = {}
    for size in _sizes(tables):
        kept = sum(sum(quotas[i]) for i, table in tables.items() if slot_bytes(table) == size)
        number[size] = len(pools)
        pools.append(BundlePool(offset, size, kept + spare[size]))
        offset += _pages(pools[-1].slots * size)
    cached = [CachedTable(i, number[slot_bytes(table)], table.channel_count, quotas[i]) for i, table in tables.items()]
    return BundlePlan(tuple(pools), tuple(cached))
