import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.actors.arena.residency.slot_stack import SlotStack


@given(actions=st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_any_history_keeps_slots_apart(actions: list[tuple[bool, int]]) -> None:
    pool, taken = SlotStack(7, 6), np.empty(0, np.int32)
    for takes, count in actions:
        if takes and count <= pool.free_count:
            taken = np.concatenate((taken, pool.take(count)))
        elif not takes:
            pool.give_back(taken[:count])
            taken = taken[count:]
        pool.validate()
        assert np.unique(taken).size == taken.size == pool.count - pool.free_count
        assert all(7 <= slot < 13 for slot in taken)


def test_the_slot_that_was_given_back_last_is_taken_first() -> None:
    pool = SlotStack(3, 2)
    slots = pool.take(1)
    pool.give_back(slots)
    assert pool.take(1).tolist() == slots.tolist() == [3]


def test_what_was_not_taken_is_not_given_back() -> None:
    pool = SlotStack(3, 2)
    taken = pool.take(1)
    for wrong in ([4], [2], [5]):
        with pytest.raises(ValueError, match="not taken"):
            pool.give_back(np.array(wrong, np.int32))
    pool.give_back(taken)
    with pytest.raises(ValueError, match="2 are free"):
        pool.take(3)
    pool.validate()
