"""What a residency policy is: a rank for each bundle. Who ranks highest stays; the table does the rest."""

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.uint32]  # bundles of one table, as they travel
Index: TypeAlias = npt.NDArray[np.intp]  # the same, ready to index with
Ranks: TypeAlias = npt.NDArray[np.int64]

RANK_LIMIT = 1 << 32  # ranks lie below: a table packs rank, residence and bundle into 64 bits


class ResidencyPolicy(Protocol):
    """The view of one table. Every method works on whole visits; a visit is one step's use of the table.

    After each visit the table keeps, of what is cached or was loaded and used, the `quota` bundles of highest rank. At
    equal rank cached ones go before loaded ones, then lower ids before higher ones.
    """

    def begin_visit(self, active: Index) -> None:
        """The step uses `active` [n], rising, each once."""

    def rank(self, bundles: Index) -> Ranks:
        """[n] -> [n], below RANK_LIMIT. Negative: it must not stay, whatever room there is."""

    def initial(self, quota: int) -> Ids:
        """The bundles worth loading before the first visit, at most `quota`, rising."""

    def new_sequence(self) -> None:
        """Another text begins: forget what the last one taught. Cached bundles stay until better ones come."""

    @property
    def bookkeeping_bytes(self) -> int:
        """Memory that the policy holds for the table."""
