from hypothesis import given
from hypothesis import strategies as st

from tidemill.storage.layout import cut_table, plan_shards
from tidemill.storage.manifest import Plane, Table


def table(count: int, elements: int) -> Table:
    plane = Plane("raw", elements * 2)
    return Table(
        role="mlp",
        layer=0,
        layout="neuron",
        element="bf16",
        bundle_count=count,
        bundle_elements=elements,
        planes=(plane,),
        checksum_block_bytes=0,
    )


@given(count=st.integers(1, 5000), elements=st.integers(1, 900), extent_bytes=st.integers(1, 100_000))
def test_extents_cover_a_table_once_evenly_and_within_bounds(count: int, elements: int, extent_bytes: int) -> None:
    cuts = cut_table(table(count, elements), extent_bytes)
    assert [bundle for start, stop in cuts for bundle in range(start, stop)] == list(range(count))
    sizes = [stop - start for start, stop in cuts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or max(sizes) * elements * 2 <= extent_bytes
    assert max(sizes) == 1 or len(cuts) == -(-count // (extent_bytes // (elements * 2)))


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), shard_bytes=st.integers(1, 5000))
def test_shards_hold_every_extent_in_order_within_bounds(counts: list[int], shard_bytes: int) -> None:
    tables = [table(count, 8) for count in counts]
    shards = plan_shards(tables, extent_bytes=128, shard_bytes=shard_bytes)
    flat = [part for shard in shards for part in shard]
    expected = [(i, *cut) for i, each in enumerate(tables) for cut in cut_table(each, 128)]
    assert [tuple(part) for part in flat] == expected
    for shard in shards:
        assert len(shard) == 1 or sum((part.stop - part.start) * 16 for part in shard) <= shard_bytes
