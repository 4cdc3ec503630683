"""Measures how fast files are read, over request sizes and depths, through the device that decoding reads with."""

import select
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.options import choose_load_mode
from tidemill.runtime.planning.rates import FlashPoint, FlashRates
from tidemill.runtime.region import Region
from tidemill.storage.devices.device import ReadOutcome, ReadRequest
from tidemill.storage.devices.thread_pool import ThreadPoolDevice
from tidemill.storage.errors import DeviceError

REQUEST_SIZES = (64 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20)
DEPTHS = (1, 2, 4, 8, 16)
QUEUED = 4  # requests that wait inside the device, so that no thread of it ever does
# Each point is measured this often, in turns, as a shared drive's rate drifts; and into a new region each time, as the
# rate hangs on how scattered its pages lie in memory: on a virtual drive 1.1 GB/s with runs of 1 page, 1.5 with 2,
# 1.9 with 4, 2.3 into 2 MiB pages. A run's arena has its own luck there.
ROUNDS = 3
SLOT_BYTES = 4 << 20  # apart: small requests are spread over as many pages as large ones
WARM_SHARE = 0.2  # of a point's time, before counting begins
ANSWER_DEADLINE_S = 30.0


class FlashTooSmallError(ValueError):
    """The files hold too little to read a request of every size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashPlan:
    """What is measured, and for how long. `seconds` is per point, all rounds together."""

    request_sizes: tuple[int, ...] = REQUEST_SIZES
    depths: tuple[int, ...] = DEPTHS
    seconds: float

    @property
    def points(self) -> tuple[tuple[int, int], ...]:
        return tuple((size, depth) for size in self.request_sizes for depth in self.depths)


class FlashMeter:
    """Reads on through the files, each point where the last one stopped, so that no cache below serves it."""

    def __init__(self, files: Sequence[Path], *, source: str) -> None:
        self._files = list(files)
        self._sizes = [path.stat().st_size for path in files]
        self._source = source
        self._at = (0, 0)  # file, offset

    def measure(self, plan: FlashPlan, on_point: Callable[[float], None]) -> FlashRates:
        """`on_point(seconds)` is called after each. Raises DeviceError, FlashTooSmallError."""
        largest = max(plan.request_sizes)
        if max(self._sizes, default=0) < largest:
            raise FlashTooSmallError(
                f"{self._source} has no file of {largest} bytes, the largest request to measure; measure on a scratch "
                "file (leave -m out) or on a larger model"
            )
        slots = max(plan.depths) + QUEUED
        totals = dict.fromkeys(plan.points, (0, 0.0))
        mode = wanted = choose_load_mode("auto")
        for _ in range(ROUNDS):
            with _region(slots * max(largest, SLOT_BYTES)) as region:
                for size, depth in plan.points:
                    device = ThreadPoolDevice(self._files, region.array, depth=depth, load_mode=wanted)
                    try:
                        count, seconds = self._run(device, size, depth, plan.seconds / ROUNDS)
                    finally:
                        device.close()
                    mode = device.load_mode
                    before = totals[size, depth]
                    totals[size, depth] = (before[0] + count * size, before[1] + seconds)
                    on_point(plan.seconds / ROUNDS)
        points = [FlashPoint(size, depth, count / seconds) for (size, depth), (count, seconds) in totals.items()]
        return FlashRates(source=self._source, load_mode=mode, points=tuple(points))

    def _run(self, device: ThreadPoolDevice, size: int, depth: int, budget_s: float) -> tuple[int, float]:
        """(reads, seconds they took). At least one is counted, however slow the drive."""
        begun = counted_from = time.perf_counter()
        done = counted = 0
        for slot in range(depth + QUEUED):
            device.submit(self._request(slot, size), urgent=False)
        while True:
            for outcome in _await(device):
                if outcome.error is not None:
                    raise DeviceError(outcome.error)
                now = time.perf_counter()
                done += 1
                if done <= depth or now - begun < WARM_SHARE * budget_s:
                    counted_from = now
                else:
                    counted += 1
                if counted and now - begun >= budget_s:
                    return counted, now - counted_from
                device.submit(self._request(outcome.ticket, size), urgent=False)

    def _request(self, slot: int, size: int) -> ReadRequest:
        """The next `size` bytes into a slot. No checksums: these are no extents, and hashing is 5 % of a fast read."""
        file, offset = self._at
        while offset + size > self._sizes[file]:
            file, offset = (file + 1) % len(self._files), 0
        self._at = (file, offset + size)
        return ReadRequest(
            ticket=slot,
            shard=file,
            offset=offset,
            stored_bytes=size,
            decoded_bytes=size,
            codec="raw",
            checksums=(),
            checksum_block_bytes=0,
            destination=slot * max(size, SLOT_BYTES),
        )


@contextmanager
def _region(size: int) -> Iterator[Region]:
    """Memory of the arena's own sort."""
    region = Region.create("tune", size, Path(tempfile.gettempdir()))
    try:
        region.advise_huge_pages()
        yield region
    finally:
        region.close()


def _await(device: ThreadPoolDevice) -> Sequence[ReadOutcome]:
    while not (outcomes := device.outcomes()):
        if not select.select(device.wake_fds, [], [], ANSWER_DEADLINE_S)[0]:
            raise DeviceError(f"no read was answered within {ANSWER_DEADLINE_S:.0f} s; the drive is too slow or hangs")
    return outcomes
