"""What the bundle store answers: reads to ask for, and what became of them."""

from collections.abc import Sequence
from typing import NamedTuple

from tidemill.actors.arena.residency.outcomes import Slots
from tidemill.actors.arena.residency.policy import Ids


class Gather(NamedTuple):
    """Bundles to be read into slots of their table's pool. `demand`: a visit waits for some of them."""

    ticket: int
    table: int
    bundles: Ids
    slots: Slots
    demand: bool


class VisitReads(NamedTuple):
    """What a visit asks of the reader: what is missing, and what of speculation to hurry or to give up (tickets)."""

    gathers: Sequence[Gather]
    promoted: Sequence[int]
    cancelled: Sequence[int]


class Placed(NamedTuple):
    """Every bundle of the visit lies in its slot."""

    request: int
    slots: Slots


class Failure(NamedTuple):
    """`is_final`: the visit under way can't be placed and has to be abandoned. `gathers`: what it needs, once more, and
    nothing beside it."""

    is_final: bool
    gathers: Sequence[Gather]


class SpeculatedBytes(NamedTuple):
    """Since the store was made: read before a visit asked for it and then used, or not; given up before it was read."""

    useful: int
    wasted: int
    cancelled: int
