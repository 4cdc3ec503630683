from hypothesis import given
from hypothesis import strategies as st

from tidemill.actors.arena.slots import SlotPool, SlotState


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["take", "ready", "doom", "release", "stale", "back"]), st.integers(0, 5))
    )
)
def test_any_history_keeps_slots_apart_and_stale_references_out(actions: list[tuple[str, int]]) -> None:
    pool = SlotPool(10, 6)
    stale: list[tuple[int, int]] = []
    for action, pick in actions:
        slot = 10 + pick
        state = pool.state_of(slot)
        if action == "take" and pool.free_count:
            taken = pool.take()
            assert taken in pool
            assert pool.state_of(taken) is SlotState.READING
        elif action == "ready" and state is SlotState.READING:
            pool.set_ready(slot)
        elif action == "doom" and state is SlotState.READING:
            pool.doom(slot)
        elif action == "release" and state is SlotState.READY:
            generation = pool.generation_of(slot)
            assert pool.release(slot, generation)
            stale.append((slot, generation))
        elif action == "back" and state in (SlotState.DOOMED, SlotState.READING):
            stale.append((slot, pool.generation_of(slot)))
            pool.give_back(slot)
        elif action == "stale" and stale:
            assert not pool.release(*stale[pick % len(stale)])
        pool.validate()
    assert pool.free_count == len(pool.slots_in(SlotState.FREE))
