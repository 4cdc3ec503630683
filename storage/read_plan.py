"""Which reads get a set of bundles from flash: near neighbours are read as one where reading the gap between them is
cheaper than another request. Pure; knows no device, no table and no process.

The time of a plan is taken to be the sum of its requests' times T[size], each a request's share of the drive at the
depth that T was measured at. Were T affine, merging exactly the gaps of at most fixed cost / cost per byte would be the
optimum: whether two neighbours are joined then changes nothing for the others. A measured T is bent, so several gaps
are tried, and the cheapest plan is mended by joining and cutting single reads as long as that saves time.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.manifest import ALIGNMENT_BYTES

Ints = npt.NDArray[np.int64]
# In blocks of ALIGNMENT_BYTES that belong to no wanted bundle. Tried beside what affine pieces of T suggest.
GAPS = (0, 1, 2, 4, 8, 16, 32, 64)
SHARD_BLOCKS = 1 << 40  # more than any shard has
LEAST_SAVED_S = 1e-12  # below, it is rounding
ROUNDS = 3  # of mending


class ReadPlan(NamedTuple):
    """R reads of N bundles, both in the order of their places. Reads of a plan may share a block, never a bundle.

    A read may end behind the end of its file, by less than a block: what is missing there belongs to no bundle.
    """

    shards: Ints  # [R]
    offsets: Ints  # [R], multiples of ALIGNMENT_BYTES
    sizes: Ints  # [R], bytes, too
    first: Ints  # [R] index of the first bundle of each read
    last: Ints  # [R] and of its last one
    places: Ints  # [N] byte offset of each bundle inside its read
    bundle_bytes: int

    @property
    def requests(self) -> int:
        return len(self.offsets)

    @property
    def useful_bytes(self) -> int:
        return len(self.places) * self.bundle_bytes

    @property
    def read_bytes(self) -> int:
        return int(self.sizes.sum())

    @property
    def run_lengths(self) -> Ints:
        """Wanted bundles of each read, [R]."""
        return self.last - self.first + 1


class RequestTimes:
    """T: seconds that requests of a size take of the drive, by linear interpolation over measured sizes.

    Above the largest size its cost per byte goes on as between the two largest. Below the smallest, so does the line
    through the two smallest, but never under the time per byte of the smallest.
    """

    def __init__(self, request_bytes: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> None:
        """Sizes rising. Raises ValueError for what cannot be interpolated."""
        rising = len(request_bytes) > 0 and bool(np.all(np.diff(request_bytes) > 0)) and request_bytes[0] > 0
        if len(request_bytes) != len(seconds) or not rising or not np.all(seconds > 0):
            raise ValueError(
                f"request times of {len(request_bytes)} sizes and {len(seconds)} times: expected rising sizes above 0 "
                "and a time above 0 for each; run `tidemill tune` again"
            )
        if len(request_bytes) == 1:
            request_bytes, seconds = np.append(request_bytes, 2 * request_bytes), np.append(seconds, 2 * seconds)
        self._sizes = request_bytes
        self._seconds = seconds
        self._slopes = np.diff(seconds) / np.diff(request_bytes)

    def of(self, request_bytes: Ints) -> npt.NDArray[np.float64]:
        """Seconds of each request."""
        sizes, seconds, slopes = self._sizes, self._seconds, self._slopes
        inside = np.interp(request_bytes, sizes, seconds)
        above = np.maximum(request_bytes - sizes[-1], 0) * slopes[-1]
        below = np.maximum(sizes[0] - request_bytes, 0)
        found: npt.NDArray[np.float64] = inside + above - np.minimum(below * slopes[0], below * seconds[0] / sizes[0])
        return found

    @property
    def gaps(self) -> Ints:
        """Gaps in bytes that cost as much as a request, by each affine piece of T."""
        fixed = self._seconds[:-1] - self._slopes * self._sizes[:-1]
        useful = (fixed > 0) & (self._slopes > 0)
        return (fixed[useful] / self._slopes[useful]).astype(np.int64)


class ReadPlanner:
    """Plans reads of at most `max_bytes` each. Holds T as a list by blocks."""

    def __init__(self, times: RequestTimes, *, max_bytes: int) -> None:
        """`max_bytes` is a multiple of ALIGNMENT_BYTES; ValueError otherwise."""
        if max_bytes <= 0 or max_bytes % ALIGNMENT_BYTES:
            raise ValueError(f"reads of at most {max_bytes} bytes, expected a multiple of {ALIGNMENT_BYTES}")
        self._most = max_bytes // ALIGNMENT_BYTES
        self._times = np.append(times.of(np.arange(self._most + 1) * ALIGNMENT_BYTES), np.inf)
        self._times[0] = 0.0
        gaps = {*GAPS, *(times.gaps // ALIGNMENT_BYTES).tolist()}
        self._gaps = sorted(gap for gap in gaps if gap < self._most)

    def plan(self, shards: Ints, offsets: Ints, bundle_bytes: int) -> ReadPlan:
        """Reads of bundles at `offsets` of `shards` [N], sorted by both and none twice.

        Raises ValueError for bundles that no read of the allowed size holds.
        """
        begins = offsets // ALIGNMENT_BYTES
        ends = -(-(offsets + bundle_bytes) // ALIGNMENT_BYTES)
        if len(offsets) and int((ends - begins).max()) > self._most:
            raise ValueError(
                f"bundles of {bundle_bytes} bytes do not fit into reads of {self._most * ALIGNMENT_BYTES} bytes"
            )
        gaps = begins[1:] - ends[:-1]
        gaps[shards[1:] != shards[:-1]] = np.iinfo(np.int64).max
        first = min(
            (self._cut(gaps, allowed, len(offsets)) for allowed in self._gaps),
            key=lambda first: self._seconds(begins, ends, first),
        )
        first = self._split(shards, begins, ends, first)
        for _ in range(ROUNDS):
            mended = self._join_reads(begins, ends, gaps, self._cut_reads(begins, ends, first))
            if len(mended) == len(first) and np.array_equal(mended, first):
                break
            first = mended
        last = _last(first, len(offsets))
        lengths = last - first + 1
        return ReadPlan(
            shards=shards[first],
            offsets=begins[first] * ALIGNMENT_BYTES,
            sizes=(ends[last] - begins[first]) * ALIGNMENT_BYTES,
            first=first,
            last=last,
            places=offsets - np.repeat(begins[first] * ALIGNMENT_BYTES, lengths),
            bundle_bytes=bundle_bytes,
        )

    def _cut(self, gaps: Ints, allowed: int, count: int) -> Ints:
        """The first bundle of each read, were gaps of up to `allowed` blocks read."""
        starts = np.flatnonzero(gaps > allowed) + 1
        return np.concatenate([np.zeros(min(1, count), np.int64), starts])

    def _seconds(self, begins: Ints, ends: Ints, first: Ints) -> float:
        """Of reads of any length, those that are too long in several."""
        whole, rest = np.divmod(ends[_last(first, len(begins))] - begins[first], self._most)
        return float(whole.sum() * self._times[self._most] + self._times[rest].sum())

    def _join_reads(self, begins: Ints, ends: Ints, gaps: Ints, first: Ints) -> Ints:
        """Join reads with the next one where that saves time, and more than to join either with its other neighbour."""
        if len(first) < 2:
            return first
        last = _last(first, len(begins))
        seconds = self._times[ends[last] - begins[first]]
        joined = ends[last[1:]] - begins[first[:-1]]
        joined[(gaps[last[:-1]] > self._most) | (joined > self._most)] = self._most + 1  # takes for ever
        saved = seconds[:-1] + seconds[1:] - self._times[joined]
        around = np.concatenate([[0.0], saved, [0.0]])
        stays = np.append(True, (saved <= LEAST_SAVED_S) | (saved <= around[:-2]) | (saved < around[2:]))
        kept: Ints = first[stays]
        return kept

    def _cut_reads(self, begins: Ints, ends: Ints, first: Ints) -> Ints:
        """Cut each read once, where that saves most, if it saves time."""
        last = _last(first, len(begins))
        lengths = last - first + 1
        several = np.flatnonzero(lengths > 1)
        if not len(several):
            return first
        read_of = np.repeat(several, lengths[several] - 1)  # of each place behind which a read can be cut
        edges = np.cumsum(lengths[several] - 1) - (lengths[several] - 1)
        inside = np.arange(len(read_of)) + np.repeat(first[several] - edges, lengths[several] - 1)
        cut = self._times[ends[inside] - begins[first][read_of]] + self._times[ends[last][read_of] - begins[inside + 1]]
        least = np.minimum.reduceat(cut, edges)
        worth = least < self._times[ends[last[several]] - begins[first[several]]] - LEAST_SAVED_S
        if not worth.any():
            return first
        cuts = inside[np.flatnonzero(cut == np.repeat(np.where(worth, least, -1.0), lengths[several] - 1))]
        is_first = np.zeros(len(begins), np.bool_)
        is_first[first] = is_first[cuts + 1] = True
        return np.flatnonzero(is_first)

    def _split(self, shards: Ints, begins: Ints, ends: Ints, first: Ints) -> Ints:
        """Reads that are too long end before the first bundle that does not fit. A loop over what comes of those."""
        last = _last(first, len(begins))
        long = np.flatnonzero(ends[last] - begins[first] > self._most)
        if not len(long):
            return first
        base = shards * SHARD_BLOCKS
        following = np.searchsorted(base + ends, base + begins + self._most, side="right").tolist()
        is_first = np.zeros(len(begins), np.bool_)
        is_first[first] = True
        for at, stop in zip(first[long].tolist(), last[long].tolist(), strict=True):
            while (at := following[at]) <= stop:
                is_first[at] = True
        return np.flatnonzero(is_first)


def _last(first: Ints, count: int) -> Ints:
    """The last bundle of each read, of their first ones."""
    return np.append(first[1:], count)[: len(first)] - 1
