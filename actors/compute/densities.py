"""How much each operator computed with, of its input channels or neurons."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.operators import OPERATORS, Operator
from tidemill.actors.compute.selection.selected import Mask


class Densities:
    """Counts every mask that a step computes with, whatever the layout."""

    def __init__(self) -> None:
        self._computed: npt.NDArray[np.int64] = np.zeros(len(OPERATORS), np.int64)
        self._possible: npt.NDArray[np.int64] = np.zeros(len(OPERATORS), np.int64)

    def add(self, operator: Operator, mask: Mask) -> int:
        """How many the mask keeps."""
        kept, place = int(np.count_nonzero(mask)), OPERATORS.index(operator)
        self._computed[place] += kept
        self._possible[place] += mask.size
        return kept

    def take(self) -> npt.NDArray[np.float64]:
        """The share that each operator computed with since this was last asked for, [7]: 1 where nothing was masked."""
        shares = np.ones(len(OPERATORS))
        np.divide(self._computed, self._possible, out=shares, where=self._possible > 0)
        self._computed[:] = self._possible[:] = 0
        return shares
