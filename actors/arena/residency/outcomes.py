"""What a table answers to the arena."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids

Slots = npt.NDArray[np.int32]


class Visit(NamedTuple):
    """`slots` [active]: where each active bundle lies or is being loaded to, -1 where it is missing; `missing`: those
    to demand, rising. A bundle that was staged before has a slot; whether its read is done is for the arena to know."""

    slots: Slots
    missing: Ids


class Settlement(NamedTuple):
    """`freed`: the slots of `evicted`, then of `refused` and `wasted`, for the pool. No byte moves: an admitted bundle
    stays in the slot that it was loaded to."""

    admitted: Ids
    evicted: Ids
    refused: Ids  # loaded and used, not worth a place
    wasted: Ids  # preloaded and not used
    freed: Slots


@dataclass(frozen=True)
class ResidencyCounts:
    """Bundles since the table was made; the first four over visits that the policy learns from. active = hits +
    preload_hits + missed: a hit was cached, a preload hit was staged when the visit began. evicted counts those that a
    lower quota drove out too."""

    visits: int
    active: int
    hits: int
    preload_hits: int
    missed: int
    admitted: int
    evicted: int
    refused: int
    wasted: int
