"""The free slots of one size, for all tables whose bundles have that size."""

import numpy as np

from tidemill.actors.arena.residency.outcomes import Slots


class SlotStack:
    """Slots [first, first + count), taken and given back many at a time, the warmest first. What lies in them is the
    residencies' to know; `slots.SlotPool` is for slots that have states of their own and are taken one by one."""

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self._free = np.arange(first + count - 1, first - 1, -1, dtype=np.int32)  # the top is at the end
        self._free_count = count
        self._is_free = np.ones(count, np.bool_)

    @property
    def free_count(self) -> int:
        return self._free_count

    def take(self, count: int) -> Slots:
        """The caller has looked at `free_count`."""
        if count > self._free_count:
            raise ValueError(f"{count} slots wanted, {self._free_count} of {self.count} are free")
        left = self._free_count - count
        slots = self._free[left : self._free_count][::-1].copy()
        self._free_count = left
        self._is_free[slots - self.first] = False
        return slots

    def give_back(self, slots: Slots) -> None:
        """Distinct slots that were taken; raises ValueError for others, and then takes none."""
        places = slots.astype(np.intp) - self.first
        if places.size and (places.min() < 0 or places.max() >= self.count or self._is_free[places].any()):
            raise ValueError(f"slots of [{self.first}, {self.first + self.count}) given back that were not taken")
        self._is_free[places] = True
        self._free[self._free_count : self._free_count + slots.size] = slots
        self._free_count += slots.size

    def validate(self) -> None:
        """Raises AssertionError when the stack and the states disagree."""
        free = np.sort(self._free[: self._free_count]) - self.first
        assert np.array_equal(free, np.flatnonzero(self._is_free)), "free stack and slot states disagree"
