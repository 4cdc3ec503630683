"""One read of the arena's own that is out: a whole extent into its slot, or a row of a demand."""

from typing import NamedTuple

from tidemill.storage.ids import ExtentId, SlotId


class Ticket(NamedTuple):
    extent: ExtentId
    slot: SlotId
    place: int  # for a row: its place in the demand
