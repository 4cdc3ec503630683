import numpy as np
import pytest

from tidemill.actors.messages import GatherBundles, Read
from tidemill.actors.packing import unpack_ids
from tidemill.runtime.stress.reader.patterns import (
    BlockPattern,
    ExtentPattern,
    Pattern,
    Place,
    ScatterPattern,
    TracePattern,
)
from tidemill.storage.manifest import Extent, Plane, Table

BLOCK = 4096


def extent(size: int) -> Extent:
    return Extent(
        table=0, plane=0, shard=0, offset=0, stored_bytes=size, bytes=size, bundle_start=0, bundle_stop=1, checksums=()
    )


def bundles_table(count: int) -> Table:
    return Table(
        role="mlp",
        layer=0,
        layout="neuron",
        element="bf16",
        bundle_count=count,
        bundle_elements=32,
        planes=(Plane("raw-bundles", 64),),
        checksum_block_bytes=0,
    )


def one_pass(pattern: Pattern) -> list[tuple[int, int]]:
    """(extent, start) of each read."""
    found = []
    while (order := pattern.next(Place(3, 12288))) is not None:
        assert isinstance(order, Read)
        assert (order.ticket, order.destination) == (3, 12288)
        found.append((order.extent, order.start))
    return found


def test_files_take_turns_until_the_longer_one_is_alone() -> None:
    pattern = BlockPattern([extent(3 * BLOCK), extent(BLOCK)], BLOCK, "read", 0)
    assert one_pass(pattern) == [(0, 0), (1, 0), (0, BLOCK), (0, 2 * BLOCK)]
    assert pattern.pass_bytes == 4 * BLOCK


def test_a_random_pass_reads_each_block_once_and_the_next_pass_in_another_order() -> None:
    pattern = BlockPattern([extent(64 * BLOCK)], BLOCK, "randread", 5)
    first, second = one_pass(pattern), one_pass(pattern)
    assert sorted(first) == sorted(second) == [(0, i * BLOCK) for i in range(64)]
    assert first != second
    assert one_pass(BlockPattern([extent(64 * BLOCK)], BLOCK, "randread", 5)) == first
    assert one_pass(BlockPattern([extent(64 * BLOCK)], BLOCK, "randread", 6)) != first


@pytest.mark.parametrize("rw", ["read", "randread"])
def test_extents_are_read_whole_by_their_ids(rw: str) -> None:
    pattern = ExtentPattern([extent(BLOCK), extent(2 * BLOCK), extent(BLOCK)], 7, rw, 1)  # type: ignore[arg-type]
    found = one_pass(pattern)
    assert sorted(found) == [(7, 0), (8, 0), (9, 0)]
    assert rw == "randread" or found == sorted(found)


def gathers(pattern: Pattern, number: int = 0) -> list[GatherBundles]:
    found = []
    while (order := pattern.next(Place(number, 0))) is not None:
        assert isinstance(order, GatherBundles)
        found.append(order)
    return found


def test_neighbouring_bundles_of_every_table_come_once_each() -> None:
    pattern = ScatterPattern({2: bundles_table(5), 4: bundles_table(2)}, 2, "read", 0)
    found = gathers(pattern)
    brought = [(order.table, id_) for order in found for id_ in unpack_ids(order.bundles).tolist()]
    assert sorted(brought) == [(2, i) for i in range(5)] + [(4, i) for i in range(2)]
    assert [order.table for order in found] == [2, 4, 2, 2]


def test_drawn_bundles_rise_and_go_to_the_places_own_slots() -> None:
    for order in gathers(ScatterPattern({0: bundles_table(100)}, 8, "randread", 0), number=3):
        bundles = unpack_ids(order.bundles)
        assert (np.diff(bundles.astype(int)) > 0).all()
        assert unpack_ids(order.slots).tolist() == list(range(24, 24 + len(bundles)))


def test_a_traces_rows_come_in_their_order_pass_after_pass() -> None:
    rows = [(0, np.array([1, 5])), (1, np.array([2]))]
    pattern = TracePattern(rows, {0: 64, 1: 128})
    for _ in range(2):
        assert [(o.table, unpack_ids(o.bundles).tolist()) for o in gathers(pattern)] == [(0, [1, 5]), (1, [2])]
    assert (pattern.pass_bytes, pattern.most) == (256, 2)
