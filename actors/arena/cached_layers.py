"""One table of self-contained bundles as the arena sees it: a residency for each of its layers."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, choose_part_policy
from tidemill.actors.arena.residency.outcomes import ResidencyCounts
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.storage.bundle_plan import CachedTable

COUNTS = len(ResidencyCounts.__dataclass_fields__)
Uses = npt.NDArray[np.int64]  # [layers, channels]
Places = npt.NDArray[np.bool_]


class CachedLayers:
    """Bundle i of the table is channel i // layers of its layer i % layers, its *place*."""

    def __init__(self, cached: CachedTable, choice: ResidencyChoice, popularity: Uses | None = None) -> None:
        """`popularity`: how often other text used them; hot sets need it."""
        self.id = cached.table
        self.pool = cached.pool
        self.layers = len(cached.quotas)
        channels = cached.channels
        uses = [None] * self.layers if popularity is None else popularity
        self.parts = [
            TableResidency(choose_part_policy(choice, channels, quota, of_layer), channels, quota)
            for quota, of_layer in zip(cached.quotas, uses, strict=True)
        ]
        self._counted = np.zeros((self.layers, COUNTS), np.int64)  # as they were last added up

    def split(self, bundles: Ids) -> Iterator[tuple[int, TableResidency, Places, Ids]]:
        """For each place with some: it, its residency, which of `bundles` are its, and their channels."""
        channels, places = bundles // np.uint32(self.layers), bundles % np.uint32(self.layers)
        for place, part in enumerate(self.parts):
            mine = places == place
            if mine.any():
                yield place, part, mine, channels[mine]

    def bundles_of(self, channels: Ids, place: int) -> Ids:
        return channels * np.uint32(self.layers) + np.uint32(place)

    def take_counts(self, place: int) -> npt.NDArray[np.int64]:
        """What was counted of a place since the last call: the fields of ResidencyCounts."""
        now = np.array(fields_of(self.parts[place].counts))
        new: npt.NDArray[np.int64] = now - self._counted[place]
        self._counted[place] = now
        return new


def fields_of(counts: ResidencyCounts) -> tuple[int, ...]:
    return (
        counts.visits, counts.active, counts.hits, counts.preload_hits, counts.missed, counts.admitted,
        counts.evicted, counts.refused, counts.wasted,
    )  # fmt: skip
