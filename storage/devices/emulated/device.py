"""The emulated flash device: another device does the reading, and what it brings is shown when the emulated drive would
have brought it. It can only be slower, and it tells where the one below was."""

import os
import random
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up
from tidemill.storage.devices.alarm import Alarm, make_alarm
from tidemill.storage.devices.device import FlashDevice, LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.emulated.faults import NEVER, FaultDice, Hit, Vanishing, stalls_of
from tidemill.storage.devices.emulated.pauses import Pace
from tidemill.storage.devices.emulated.plain_reads import PlainReads, places_of
from tidemill.storage.devices.emulated.service import Job, Limits, Service
from tidemill.storage.devices.emulated.spec import Emulation, slots_of, table_of
from tidemill.storage.devices.gather import GatherRequest
from tidemill.storage.devices.gather_pool import BACKGROUND_GATHERS
from tidemill.storage.devices.gatherer import GATHER_DEPTH, YIELDING_DEPTH

I64 = npt.NDArray[np.int64]
GONE = "the drive is gone: No such device (ENODEV); see that it is connected and mounted, then open the model again"


class Tally(IntEnum):
    """What an emulated device counts, in an array of its owner's."""

    LATE_READS = 0  # requests that the drive below had not brought when the emulated one, if it has limits, would have
    LATE_NS = 1  # how late they were, all together
    FAULTS = 2  # requests that a fault was injected into


@dataclass(slots=True)
class _Open:
    """A request that was not answered yet. Both are needed: what became of it, and when the emulated drive ends."""

    job: Job
    is_below: bool  # the device below has it
    answer: ReadOutcome | None = None
    ended_ns: float | None = None
    is_late: bool = False
    is_cancelled: bool = False
    is_lost: bool = False  # the drive was gone before it ended


class EmulatedDevice:
    """Implements FlashDevice over another, which it owns.

    Requests go on at once, so that the one below is never what waits; those that a fault hits are done here, in a
    thread of their own. `depth` is what the device below has under way at once.
    """

    def __init__(
        self,
        device: FlashDevice,
        emulation: Emulation,
        plain: PlainReads,
        *,
        depth: int,
        alarm: Alarm,
        tallies: I64,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`tallies` [len(Tally)] is counted up; the clock is the alarm's."""
        self._device = device
        self._plain = plain
        self._alarm = alarm
        self._clock_ns = clock_ns
        self._tallies = tallies
        self._table = table_of(emulation)
        self._is_limited = emulation.is_limited
        self._jitter = emulation.jitter  # sigma of a log-normal of mean 1
        self._random = random.Random(emulation.seed)
        self._rng = np.random.default_rng(emulation.seed)
        self._dice = FaultDice(emulation.faults, emulation.seed)
        self._vanishing = Vanishing(emulation.faults)
        pace = Pace(
            gc=emulation.gc, throttle=emulation.throttle, stalls=stalls_of(emulation.faults), seed=emulation.seed
        )
        limits = Limits(
            slots=slots_of(emulation),
            requests=depth,
            background_gathers=max(1, min(BACKGROUND_GATHERS, depth - 1)),
            gather_depth=GATHER_DEPTH,
            yielding_depth=YIELDING_DEPTH,
        )
        self._service = Service(limits, pace)
        self._open: dict[int, _Open] = {}
        self._busy_ns = 0
        self._busy_since = 0
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: ThreadPoolExecutor | None = None
        self._hurt: list[ReadOutcome] = []  # of requests with faults, by that thread

    @property
    def load_mode(self) -> LoadMode:
        return self._device.load_mode

    @property
    def busy_ns(self) -> int:
        """Of the emulated drive."""
        return self._busy_ns + (self._clock_ns() - self._busy_since if self._open else 0)

    @property
    def wake_fds(self) -> Sequence[int]:
        return (*self._device.wake_fds, *self._alarm.wake_fds, self._wake_fd)

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        size = align_up(request.stored_bytes)
        costs = self._table.cost(size)
        if self._jitter:
            longer = self._random.lognormvariate(-(self._jitter**2) / 2, self._jitter)
            costs = [cost * longer for cost in costs]
        job = Job(request.ticket, costs, reads=1, bytes=size, is_gather=False, is_urgent=urgent)
        if not self._accept(request, job):
            self._device.submit(request, urgent=urgent)

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        needed = request.starts[request.edges[1:] - 1] + request.bundle_bytes
        sizes = -(-needed // request.alignment) * request.alignment
        costs = self._table.costs(sizes)
        if self._jitter:
            costs *= self._rng.lognormal(-(self._jitter**2) / 2, self._jitter, (len(costs), 1))
        job = Job(
            request.ticket,
            costs.sum(axis=0).tolist(),
            reads=len(costs),
            bytes=int(sizes.sum()),
            is_gather=True,
            is_urgent=urgent,
        )
        if not self._accept(request, job):
            self._device.submit_gather(request, urgent=urgent)

    def cancel(self, ticket: int) -> None:
        found = self._open.get(ticket)
        if found is None:
            return
        now = self._advance()
        if found.ended_ns is None and self._service.cancel(ticket):
            found.ended_ns, found.is_cancelled = now, True
            self._ring()
        if found.is_below:
            self._device.cancel(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        now = self._advance()
        self._service.promote(tickets)
        self._device.promote(tickets)
        self._set_alarm(now)

    def outcomes(self) -> Sequence[ReadOutcome]:
        self._silence()
        now = self._advance()
        for outcome in (*self._device.outcomes(), *self._take_hurt()):
            self._open[outcome.ticket].answer = outcome
        if self._vanishing.is_gone(now, self._service.served_bytes):
            self._lose_all(now)
        done: list[ReadOutcome] = []
        for ticket, found in list(self._open.items()):
            if found.ended_ns is None:
                continue
            if found.answer is None:
                found.is_late = self._is_limited and not (found.is_cancelled or found.is_lost)
                continue
            del self._open[ticket]
            done.append(self._close(found, found.answer, now))
        self._set_alarm(now)
        return done

    def close(self) -> None:
        """Closing twice is fine."""
        self._device.close()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._alarm.close()
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _accept(self, request: ReadRequest | GatherRequest, job: Job) -> bool:
        """Let the emulated drive have it. Whether it meets a fault: what comes of it is then taken care of."""
        now = self._advance()
        self._vanishing.begin(now)
        hit = self._dice.throw(*places_of(request)) if self._dice.has_rules else None
        if not self._open:
            self._busy_since = now
        self._open[request.ticket] = _Open(job, is_below=hit is None)
        self._service.submit(job)
        self._collect(now)  # without limits it has ended already
        self._set_alarm(now)
        if hit is None:
            return False
        self._tallies[Tally.FAULTS] += 1
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="flash-faults")
        self._thread.submit(self._hurt_read, request, hit)
        return True

    def _hurt_read(self, request: ReadRequest | GatherRequest, hit: Hit) -> None:
        try:
            outcome = self._plain.run(request, hit)
        except Exception as failure:  # noqa: BLE001  # an unanswered ticket would be waited for for ever
            outcome = ReadOutcome(request.ticket, f"{type(failure).__name__}: {failure}", False, kind="final")
        self._hurt.append(outcome)
        self._ring()

    def _take_hurt(self) -> list[ReadOutcome]:
        taken: list[ReadOutcome] = []
        while self._hurt:
            taken.append(self._hurt.pop(0))
        return taken

    def _close(self, found: _Open, answer: ReadOutcome, now: int) -> ReadOutcome:
        """The outcome of a request of which both are known."""
        assert found.ended_ns is not None
        if found.is_late:
            self._tallies[Tally.LATE_READS] += 1
            self._tallies[Tally.LATE_NS] += now - int(found.ended_ns)
        ended_ns = int(found.ended_ns) if self._is_limited and not found.is_late else now
        if not self._open:
            self._busy_ns += max(0, ended_ns - self._busy_since)
        if found.is_cancelled:
            answer = ReadOutcome(answer.ticket, None, True)
        elif found.is_lost:
            answer = ReadOutcome(answer.ticket, GONE, False, kind="final")
        begun_ns = ended_ns if found.job.begun_ns is None else int(found.job.begun_ns)
        return answer._replace(begun_ns=begun_ns, ended_ns=ended_ns)

    def _lose_all(self, now: int) -> None:
        """The drive is gone: what is open fails, once nobody writes to its slot any more."""
        for ticket, found in self._open.items():
            if found.is_below:
                self._device.cancel(ticket)
            found.is_lost = True
            if found.ended_ns is None:
                self._service.drop(ticket)
                found.ended_ns = now

    def _advance(self) -> int:
        now = self._clock_ns()
        self._collect(now)
        return now

    def _collect(self, now: int) -> None:
        for job, at_ns in self._service.advance(now):
            self._open[job.ticket].ended_ns = at_ns

    def _set_alarm(self, now: int) -> None:
        at = min(self._service.next_ns(), self._vanishing.next_ns(now)) if self._open else NEVER
        self._alarm.set(None if at == NEVER else int(at) + 1)

    def _ring(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _silence(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass  # nobody rang


def emulate(
    device: FlashDevice,
    emulation: Emulation,
    shards: Sequence[Path],
    arena: npt.NDArray[np.uint8],
    *,
    depth: int,
    tallies: I64,
) -> EmulatedDevice:
    """By the real clock, over a device that reads `shards` into `arena`; closes it where that cannot be had."""
    try:
        plain = PlainReads(shards, arena)
        return EmulatedDevice(device, emulation, plain, depth=depth, alarm=make_alarm(), tallies=tallies)
    except BaseException:
        device.close()
        raise
