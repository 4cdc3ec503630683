from typing import NamedTuple

from tidemill.actors.arena.cached_layers import CachedLayers
from tidemill.actors.arena.residency.outcomes import Slots


class OpenVisit(NamedTuple):
    """The visit under way: `waits_for` are the tickets that are still to be answered before it is placed."""

    request: int
    table: CachedLayers
    place: int
    slots: Slots
    waits_for: set[int]
    learns: bool
