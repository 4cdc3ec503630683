import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.global_lru import GlobalLru


@settings(max_examples=40, deadline=None)
@given(visits=st.lists(st.sets(st.integers(0, 9)), max_size=20), capacity=st.integers(0, 10))
def test_it_does_what_a_list_in_order_of_use_does(visits: list[set[int]], capacity: int) -> None:
    lru = GlobalLru(10, capacity)
    in_order: list[int] = []  # the next to be evicted first
    for active in visits:
        assert lru.visit(np.array(sorted(active), np.intp)) == len(active & set(in_order))
        in_order = [bundle for bundle in in_order if bundle not in active] + sorted(active, reverse=True)
        in_order = in_order[max(0, len(in_order) - capacity) :]


def test_a_cycle_longer_than_the_capacity_never_hits() -> None:
    lru = GlobalLru(6, 4)
    cycle = [np.array(ids, np.intp) for ids in ([0, 1], [2, 3], [4, 5])]
    assert sum(lru.visit(active) for _ in range(4) for active in cycle) == 0
    assert lru.evicted == 4 * 6 - 4
