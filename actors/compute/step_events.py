"""What a step of the decoder yields on its way: what it needs, what it is done with."""

from collections.abc import Callable, Generator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.ids import TableId

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]
WantLogits = Literal["none", "last", "all"]


class RowsNeeded(NamedTuple):
    """Rows of `embed` that are not resident; the generator is sent their byte offsets in the arena, i64."""

    table: TableId
    bundles: npt.NDArray[np.uint32]


class ExtentNeeded(NamedTuple):
    """The next extent is not resident; the generator is resumed when it is."""

    extent: int


class ExtentsConsumed(NamedTuple):
    """The step has no further use for extents [start, stop)."""

    start: int
    stop: int


class BundlesNeeded(NamedTuple):
    """Single bundles of one layer of a table, by id in the table, rising; the generator is sent their byte offsets in
    the arena, i64, which hold until BundlesUsed. `selected`: whether they are what a policy chose. `values`: the input
    that it chose by, where one position has it to itself and later layers' are like it. `foresee` works out what the
    next layer will likely need of its table, by channel, the likeliest first: it may be called while these are waited
    for."""

    table: TableId
    layer: int
    bundles: U32
    selected: bool
    values: F32 | None = None
    foresee: Callable[[], U32] | None = None


class BundlesUsed(NamedTuple):
    """The step has no further use for the bundles that it was given last."""


class LayerDone(NamedTuple):
    layer: int


StepEvent = RowsNeeded | ExtentNeeded | ExtentsConsumed | BundlesNeeded | BundlesUsed | LayerDone
StepGenerator = Generator[StepEvent, object, F32 | None]
