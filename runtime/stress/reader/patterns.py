"""Which orders a read job gives, one after the other. Pure: they know no device and no time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import GatherBundles, Read
from tidemill.actors.packing import pack_ids
from tidemill.runtime.stress.reader.job import ReadWrite
from tidemill.storage.manifest import Extent, Table

I64 = npt.NDArray[np.int64]
SHUFFLED_MAX = 1 << 24  # blocks of a file whose order is drawn beforehand, so that each is read once in a pass
Order = Read | GatherBundles


class Place(NamedTuple):
    """Where an order's bytes go: its number is its ticket."""

    number: int
    offset: int  # of the arena region, for orders that are one read


class Pattern(Protocol):
    @property
    def told(self) -> str: ...  # for people

    @property
    def pass_bytes(self) -> int: ...  # wanted ones of one pass over everything

    def next(self, place: Place) -> Order | None:
        """None: the pass is over. The one after it, if there is to be one, begins with the next call."""
        ...


class BlockPattern:
    """Blocks of extents that each fill a file, the files taking turns as in fio."""

    def __init__(self, extents: Sequence[Extent], block_bytes: int, rw: ReadWrite, seed: int) -> None:
        self._block = block_bytes
        self._counts = [extent.stored_bytes // block_bytes for extent in extents]
        self._rw = rw
        self._rng = np.random.default_rng(seed)
        self._orders = self._pass()

    @property
    def told(self) -> str:
        order = "in random order" if self._rw == "randread" else "in order"
        return f"{sum(self._counts)} blocks of {self._block} bytes of {len(self._counts)} files, {order}"

    @property
    def pass_bytes(self) -> int:
        return sum(self._counts) * self._block

    def next(self, place: Place) -> Order | None:
        found = next(self._orders, None)
        if found is None:
            self._orders = self._pass()
            return None
        extent, block = found
        return Read(place.number, extent, block * self._block, self._block, place.offset, False)

    def _pass(self) -> Iterator[tuple[int, int]]:
        files = [(number, self._blocks(count)) for number, count in enumerate(self._counts)]
        while files:
            left = []
            for number, blocks in files:
                block = next(blocks, None)
                if block is not None:
                    yield number, block
                    left.append((number, blocks))
            files = left

    def _blocks(self, count: int) -> Iterator[int]:
        if self._rw == "read":
            return iter(range(count))
        if count <= SHUFFLED_MAX:
            return map(int, self._rng.permutation(count))
        return (int(self._rng.integers(count)) for _ in range(count))


class ExtentPattern:
    """Whole extents of a model, those of its matrices, in the order in which a step streams them."""

    def __init__(self, extents: Sequence[Extent], first: int, rw: ReadWrite, seed: int) -> None:
        """`extents`: those from id `first` on."""
        self._extents = extents
        self._first = first
        self._rw = rw
        self._rng = np.random.default_rng(seed)
        self._left = self._pass()

    @property
    def told(self) -> str:
        order = "in random order" if self._rw == "randread" else "in compute order"
        return f"{len(self._extents)} extents of a model, {order}"

    @property
    def pass_bytes(self) -> int:
        return sum(extent.stored_bytes for extent in self._extents)

    def next(self, place: Place) -> Order | None:
        index = next(self._left, None)
        if index is None:
            self._left = self._pass()
            return None
        return Read(place.number, self._first + index, 0, self._extents[index].stored_bytes, place.offset, False)

    def _pass(self) -> Iterator[int]:
        count = len(self._extents)
        return iter(range(count)) if self._rw == "read" else map(int, self._rng.permutation(count))


class ScatterPattern:
    """`count` single bundles of a table to an order, of each table in turn: neighbours, or drawn."""

    def __init__(self, tables: Mapping[int, Table], count: int, rw: ReadWrite, seed: int) -> None:
        self._tables = tables
        self._count = count
        self._rw = rw
        self._rng = np.random.default_rng(seed)
        self._left = self._pass()

    @property
    def told(self) -> str:
        order = "drawn" if self._rw == "randread" else "neighbouring"
        return f"orders of {self._count} {order} bundles of {len(self._tables)} tables"

    @property
    def pass_bytes(self) -> int:
        return sum(table.bundle_count * table.planes[0].bundle_bytes for table in self._tables.values())

    def next(self, place: Place) -> Order | None:
        found = next(self._left, None)
        if found is None:
            self._left = self._pass()
            return None
        table, bundles = found
        return gather(place, table, bundles, self._count)

    def _pass(self) -> Iterator[tuple[int, I64]]:
        for at in range(max(-(-t.bundle_count // self._count) for t in self._tables.values())):
            for number, table in self._tables.items():
                first = at * self._count
                if first >= table.bundle_count:
                    continue
                size = min(self._count, table.bundle_count - first)
                if self._rw == "read":
                    yield number, np.arange(first, first + size)
                else:
                    yield number, np.sort(self._rng.choice(table.bundle_count, size, replace=False))


class TracePattern:
    """What a run selected, row by row: the bundles of one layer of one table to an order."""

    def __init__(self, rows: Sequence[tuple[int, I64]], bundle_bytes: Mapping[int, int]) -> None:
        """`rows`: table and bundles of each, in the order of the run. `bundle_bytes`: by table."""
        self._rows = rows
        self._sizes = bundle_bytes
        self._at = 0
        self._most = max(len(bundles) for _, bundles in rows)

    @property
    def told(self) -> str:
        return f"{len(self._rows)} selections of a trace, up to {self._most} bundles each"

    @property
    def pass_bytes(self) -> int:
        return sum(len(bundles) * self._sizes[table] for table, bundles in self._rows)

    @property
    def most(self) -> int:
        return self._most

    def next(self, place: Place) -> Order | None:
        if self._at == len(self._rows):
            self._at = 0
            return None
        table, bundles = self._rows[self._at]
        self._at += 1
        return gather(place, table, bundles, self._most)


def gather(place: Place, table: int, bundles: I64, room: int) -> GatherBundles:
    """`room`: slots of each place in a pool."""
    slots = np.arange(place.number * room, place.number * room + len(bundles))
    return GatherBundles(place.number, table, pack_ids(bundles), pack_ids(slots), False)
