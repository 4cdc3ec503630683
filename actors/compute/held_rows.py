"""The demand under way for rows of the embedding: what the arena was asked for, and the slots that it handed out."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.actor import Send
from tidemill.actors.compute.step_events import RowsNeeded
from tidemill.actors.messages import ActorName, BundlesReleased, DemandRows, RowsReady
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.arena_plan import ArenaPlan


class HeldRows:
    """One demand at a time. An answer to one that was given up is told by its request number and epoch."""

    def __init__(self, plan: ArenaPlan) -> None:
        self._plan = plan
        self._request = 0
        self._held: list[tuple[int, int]] = []  # slot, generation

    def demand(self, need: RowsNeeded, epoch: int) -> Send:
        self._request += 1
        return Send(ActorName.ARENA, DemandRows(self._request, epoch, need.table, pack_ids(need.bundles)))

    def place(self, message: RowsReady, epoch: int) -> npt.NDArray[np.int64] | None:
        """Byte offsets in the arena, in the order of the demand; None for a demand that was given up."""
        if message.request != self._request or message.epoch != epoch:
            return None
        placed = unpack_ids(message.placed, columns=3).tolist()
        self._held = [(slot, generation) for slot, generation, _ in placed]
        return np.array([self._plan.offset_of(slot) + offset for slot, _, offset in placed], np.int64)

    def release(self) -> list[Send]:
        if not self._held:
            return []
        released, self._held = self._held, []
        return [Send(ActorName.ARENA, BundlesReleased(pack_ids(released)))]

    def abandon(self) -> None:
        """The arena gives up by the epoch."""
        self._held.clear()
