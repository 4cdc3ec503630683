"""What a step took, for its answer and for the shared counters."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tidemill.actors.counters import MILLION, Counter, Counters


class StepMeter:
    def __init__(self, counters: Counters, kernel_ns: Callable[[], int]) -> None:
        """`kernel_ns`: spent in kernels so far, by all decoders."""
        self._counters = counters
        self._kernel_ns = kernel_ns
        self._begun_ns = 0

    def begin(self) -> None:
        self._begun_ns = self._kernel_ns()

    def end(self, positions: int, stall_ns: int, row_stall_ns: int, sequence_positions: int) -> int:
        """Counts the step; its time in kernels."""
        compute_ns = self._kernel_ns() - self._begun_ns
        self._counters[Counter.COMPUTE_NS] += compute_ns
        self._counters[Counter.STALL_NS] += stall_ns
        self._counters[Counter.ROW_STALL_NS] += row_stall_ns
        self._counters[Counter.STEPS] += 1
        self._counters[Counter.POSITIONS] += positions
        self._counters[Counter.KV_POSITIONS] = max(self._counters[Counter.KV_POSITIONS], sequence_positions)
        return compute_ns

    def count_selection(self, densities: npt.NDArray[np.float64]) -> None:
        """`densities`: the share of channels that each operator computed with at one position, [7]."""
        self._counters[Counter.COMPUTED_Q : Counter.COMPUTED_DOWN + 1] += np.rint(densities * MILLION).astype(np.int64)
        self._counters[Counter.SELECTED_POSITIONS] += 1
