"""The slots of one size, and the reads under way into them."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.outcomes import Slots
from tidemill.actors.arena.residency.slot_stack import SlotStack

NO_TICKET = -1


class PoolSlots:
    """A slot that is given up while a read into it is under way comes back when that is answered.

    `speculation_left`: how many more slots may be taken for what no visit has asked for. Of those beyond the quotas,
    `reserve` are kept back for a visit.
    """

    def __init__(self, slots: int, reserve: int, quotas: int) -> None:
        self.stack = SlotStack(0, slots)
        self.quotas = quotas  # of all layers of the pool's tables; it may move between them
        self.speculation_left = max(0, slots - quotas - reserve)
        self.ticket_of: npt.NDArray[np.int64] = np.full(slots, NO_TICKET, np.int64)
        self._given_up = np.zeros(slots, np.bool_)
        self._given_up_count = 0

    @property
    def is_short(self) -> bool:
        """Whether slots that were given up are still being read into. If not, there are enough for any visit."""
        return self._given_up_count > 0

    def free(self, slots: Slots) -> None:
        reading = self.ticket_of[slots] != NO_TICKET
        self._given_up[slots[reading]] = True
        self._given_up_count += int(np.count_nonzero(reading))
        self.stack.give_back(slots[~reading])

    def arrived(self, slots: Slots) -> None:
        """The read into these slots was answered, however."""
        self.ticket_of[slots] = NO_TICKET
        given_up = slots[self._given_up[slots]]
        self._given_up[given_up] = False
        self._given_up_count -= given_up.size
        self.stack.give_back(given_up)

    def tickets_of(self, slots: Slots) -> set[int]:
        """What is still to be answered before all of them hold their bundles."""
        return {int(ticket) for ticket in np.unique(self.ticket_of[slots])} - {NO_TICKET}
