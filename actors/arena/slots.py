"""The slots of the arena and who may touch them. Pure bookkeeping: no bytes, no messages."""

from collections import deque
from enum import IntEnum

import numpy as np

from tidemill.storage.arena_plan import ArenaPlan
from tidemill.storage.ids import SlotId


class SlotState(IntEnum):
    FREE = 0
    READING = 1  # a ticket is out for it
    READY = 2  # announced to compute and pinned until it is released
    DOOMED = 3  # a ticket is out whose answer nobody wants any more


class SlotPool:
    """A run of equal slots [first, first + count). A slot's generation rises each time it is given back, so a reference
    from before is told apart from one of now."""

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self._free: deque[SlotId] = deque(SlotId(first + i) for i in range(count))
        self._state = np.full(count, SlotState.FREE, dtype=np.int8)
        self._generation = np.zeros(count, dtype=np.uint32)

    def __contains__(self, slot: int) -> bool:
        return self.first <= slot < self.first + self.count

    @property
    def free_count(self) -> int:
        return len(self._free)

    def state_of(self, slot: int) -> SlotState:
        return SlotState(self._state[slot - self.first])

    def generation_of(self, slot: int) -> int:
        return int(self._generation[slot - self.first])

    def take(self) -> SlotId:
        """A free slot, now READING. The caller has looked at `free_count`."""
        slot = self._free.popleft()
        self._state[slot - self.first] = SlotState.READING
        return slot

    def set_ready(self, slot: int) -> None:
        assert self.state_of(slot) is SlotState.READING
        self._state[slot - self.first] = SlotState.READY

    def doom(self, slot: int) -> None:
        """The read under way into this slot is not wanted any more; the slot is free once it is answered."""
        assert self.state_of(slot) is SlotState.READING
        self._state[slot - self.first] = SlotState.DOOMED

    def give_back(self, slot: int) -> None:
        """READY, READING or DOOMED -> FREE, in a new generation."""
        assert self.state_of(slot) is not SlotState.FREE
        self._state[slot - self.first] = SlotState.FREE
        self._generation[slot - self.first] += 1
        self._free.append(SlotId(slot))

    def release(self, slot: int, generation: int) -> bool:
        """Give a READY slot back if the reference is of its present generation; False for a stale one."""
        if self.state_of(slot) is not SlotState.READY or self.generation_of(slot) != generation:
            return False
        self.give_back(slot)
        return True

    def slots_in(self, state: SlotState) -> list[SlotId]:
        return [SlotId(self.first + i) for i in (self._state == int(state)).nonzero()[0].tolist()]

    def validate(self) -> None:
        """Raises AssertionError when the free list and the states disagree."""
        assert sorted(self._free) == self.slots_in(SlotState.FREE), "free list and slot states disagree"


def ring_pools(plan: ArenaPlan) -> tuple[SlotPool, ...]:
    """The slots of each ring, by plane."""
    pools: list[SlotPool] = []
    first = plan.locked_slots
    for ring in plan.rings:
        pools.append(SlotPool(first, ring.slots))
        first += ring.slots
    return tuple(pools)
