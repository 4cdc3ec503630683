"""`linear.row_dot` and `plane_linear.row_dot_planes` over some rows of a table only: those of one operator of several
that lie in it. Kernels of their own, as two more arguments would cost every exact call a quarter of a microsecond."""

import numba
from numba.np.ufunc.parallel import get_thread_id

from tidemill.actors.compute.kernels.linear import dot_run
from tidemill.actors.compute.kernels.plane_linear import Joined, dot_run_planes
from tidemill.actors.compute.kernels.planes import U8, U32
from tidemill.actors.compute.kernels.products import F32, I64, Stored


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot_range(
    arena: Stored, offsets: I64, starts: I64, stops: I64, first: int, last: int, x: F32, out: F32, parts: int,
    row_start: int, row_stop: int,
) -> None:  # fmt: skip
    """out[b, row] = weights[row] · x[b] for those rows of extents [first, last) that lie in [row_start, row_stop)."""
    origin = max(starts[first], row_start)
    total = max(0, min(stops[last - 1], row_stop) - origin)
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        dot_run(arena, offsets, starts, stops, first, last, x, out, start, stop)


@numba.njit(parallel=True, nogil=True, cache=True)
def row_dot_range_planes(
    arena: U8, words: U32, offsets: I64, bases: I64, starts: I64, stops: I64, first: int, last: int,
    x: F32, joined: Joined, out: F32, parts: int, row_start: int, row_stop: int,
) -> None:  # fmt: skip
    """As `row_dot_range`, over pairs of extents."""
    origin = max(starts[first], row_start)
    total = max(0, min(stops[last - 1], row_stop) - origin)
    for part in numba.prange(parts):
        start = origin + total * part // parts
        stop = origin + total * (part + 1) // parts
        dot_run_planes(
            arena, words, offsets, bases, starts, stops, first, last, x, joined[get_thread_id()], out, start, stop
        )  # fmt: skip
