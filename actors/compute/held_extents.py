"""Which streamed extents compute holds: placed by the arena, given back when the step is done with them."""

from tidemill.actors.actor import Send
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.messages import ActorName, BundlesReady, BundlesReleased
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.arena_plan import ArenaPlan


class HeldExtents:
    """Writes the placement. Locked extents are placed once and never given back."""

    def __init__(self, plan: ArenaPlan, placement: Placement) -> None:
        self._plan = plan
        self._placement = placement
        self._streamed: dict[int, tuple[int, int]] = {}  # extent -> slot, generation

    def place(self, message: BundlesReady, epoch: int) -> None:
        for extent, slot, generation in unpack_ids(message.placed, columns=3).tolist():
            if slot >= self._plan.locked_slots:
                if message.epoch != epoch:
                    continue  # of a lap that was given up: the arena takes the slot back by itself
                assert extent not in self._streamed, f"extent {extent} was placed twice"
                self._streamed[extent] = (slot, generation)
            self._placement.offsets[extent] = self._plan.offset_of(slot)

    def holds(self, extent: int) -> bool:
        return bool(self._placement.offsets[extent] != NOT_RESIDENT)

    def release(self, start: int, stop: int) -> list[Send]:
        """The step has no further use for extents [start, stop)."""
        released: list[tuple[int, int]] = []
        for extent in range(start, stop):
            slot = self._streamed.pop(extent, None)
            if slot is not None:
                self._placement.offsets[extent] = NOT_RESIDENT
                released.append(slot)
        return [Send(ActorName.ARENA, BundlesReleased(pack_ids(released)))] if released else []

    def abandon(self) -> None:
        """The arena gives up by the epoch."""
        self._placement.offsets[list(self._streamed)] = NOT_RESIDENT
        self._streamed.clear()
