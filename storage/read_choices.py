"""Ways to read the same single bundles: from few large reads with wide gaps between the bundles to many small ones.

Which is fastest depends on what binds. Where requests do, reading a gap is free until it costs as much as a request;
under a throttle bytes do, and requests wait for the drive beside one another meanwhile, so hardly a gap is worth
reading. Measured request times know nothing of a throttle: each choice takes bytes for so many times dearer. Pure.
"""

import numpy as np
import numpy.typing as npt

from tidemill.storage.read_plan import Ints, ReadPlan, ReadPlanner, RequestTimes

DEARER = (0.4, 1.0, 2.5, 6.0)  # bytes, than request times say
AS_MEASURED = DEARER.index(1.0)
GRID = 4096 * 2 ** np.arange(11)  # sizes in bytes at which times are evaluated, beside the measured ones


class ReadChoices:
    def __init__(
        self, request_bytes: npt.NDArray[np.float64], request_s: npt.NDArray[np.float64], *, max_bytes: int
    ) -> None:
        """`request_s`: what requests of `request_bytes` take, rising. Raises ValueError as RequestTimes and ReadPlanner
        do."""
        measured = RequestTimes(request_bytes, request_s)
        sizes = np.union1d(request_bytes, GRID[(request_bytes[0] < GRID) & (request_bytes[-1] > GRID)])
        seconds, byte_s = measured.of(sizes.astype(np.int64)), request_s[-1] / request_bytes[-1]
        self._planners = [
            ReadPlanner(RequestTimes(sizes, self._priced(sizes, seconds, byte_s, dearer)), max_bytes=max_bytes)
            for dearer in DEARER
        ]
        self._planners[AS_MEASURED] = ReadPlanner(measured, max_bytes=max_bytes)

    def plan(self, choice: int, shards: Ints, offsets: Ints, bundle_bytes: int) -> ReadPlan:
        """As ReadPlanner.plan; `choice` is a place in DEARER."""
        return self._planners[choice].plan(shards, offsets, bundle_bytes)

    @staticmethod
    def _priced(
        sizes: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64], byte_s: float, dearer: float
    ) -> npt.NDArray[np.float64]:
        """Cheaper bytes are dearer requests: only the ratio of the two counts, and times stay above 0."""
        if dearer >= 1:
            return seconds + (dearer - 1) * byte_s * sizes
        request_s = max(0.0, float(seconds[0] - byte_s * sizes[0]))
        return seconds + (1 / dearer - 1) * request_s
