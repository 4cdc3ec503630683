"""The emulated drive as a queue: who is served, how fast, and when each ends. Pure: it is told what time it is.

Everything under way shares the drive: with n reads under way a read of s bytes gets on at 1 / seconds(s, n) of itself
per second, so that n reads of one size at any time come to n · s / seconds(s, n), the rate of the table. A gather is as
many reads under way as it may have, until the sum of what its reads take is done.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from tidemill.storage.devices.emulated.pauses import Pace, S
from tidemill.storage.devices.emulated.rate_table import at_depth

NEVER = float("inf")


class Limits(NamedTuple):
    """`slots`: reads that the drive takes at once. `requests`: most that its host has under way, of which
    `background_gathers` gathers that are not urgent. A gather has up to `gather_depth` reads under way,
    `yielding_depth` where it is not urgent while something is."""

    slots: int
    requests: int
    background_gathers: int
    gather_depth: int
    yielding_depth: int


@dataclass(slots=True, eq=False)
class Job:
    """One request of `reads` reads. `costs`: seconds of all of them, one after the other, at each of the table's
    depths."""

    ticket: int
    costs: list[float]
    reads: int
    bytes: int
    is_gather: bool
    is_urgent: bool
    arrival: int = 0
    left: float = 1.0  # share of it
    slots: int = 0  # reads of it that are under way
    begun_ns: float | None = None

    @property
    def order(self) -> tuple[bool, int]:
        return not self.is_urgent, self.arrival


class Ended(NamedTuple):
    job: Job
    at_ns: float


class Service:
    def __init__(self, limits: Limits, pace: Pace) -> None:
        self._limits = limits
        self._pace = pace
        self._now = 0.0
        self._begun: list[Job] = []
        self._waiting: list[Job] = []
        self._arrivals = 0
        self._served_bytes = 0

    @property
    def served_bytes(self) -> int:
        return self._served_bytes

    def submit(self, job: Job) -> None:
        """At the time to which it was advanced last."""
        self._pace.begin(self._now)
        job.arrival = self._arrivals
        self._arrivals += 1
        self._waiting.append(job)
        self._share()

    def cancel(self, ticket: int) -> bool:
        """Whether it ends now: what has not begun, and a gather, whose further reads are left out. One read that has
        begun ends as it would."""
        if any(job.ticket == ticket and not job.is_gather for job in self._begun):
            return False
        return self.drop(ticket)

    def drop(self, ticket: int) -> bool:
        for jobs in (self._waiting, self._begun):
            for job in jobs:
                if job.ticket == ticket:
                    jobs.remove(job)
                    self._share()
                    return True
        return False

    def promote(self, tickets: Collection[int]) -> None:
        for job in (*self._waiting, *self._begun):
            job.is_urgent = job.is_urgent or job.ticket in tickets
        self._share()

    def next_ns(self) -> float:
        """When to look again: something ends then, or the pace changes."""
        if not self._begun:
            return NEVER
        speed, until = self._pace.look(self._now, is_busy=True)
        return min(until, self._now + self._first_end(speed)[1])

    def advance(self, to_ns: float) -> list[Ended]:
        """What ended by then, in order."""
        ended: list[Ended] = []
        while True:
            speed, until = self._pace.look(self._now, is_busy=bool(self._begun))
            job, wait = self._first_end(speed)
            stop = min(to_ns, until)
            if job is not None and self._now + wait <= stop:
                self._pass(wait, speed)
                self._now += wait
                self._end(job)
                ended.append(Ended(job, self._now))
            elif self._now < to_ns:
                self._pass(stop - self._now, speed)
                self._now = stop
            else:
                return ended

    def _end(self, job: Job) -> None:
        self._begun.remove(job)
        self._served_bytes += job.bytes
        self._pace.count(self._served_bytes, self._now)
        self._share()

    def _pass(self, ns: float, speed: float) -> None:
        self._pace.pass_time(ns, is_busy=bool(self._begun))
        depth = sum(job.slots for job in self._begun)
        for job in self._begun:
            cost = at_depth(job.costs, depth) * S
            job.left = job.left - ns * speed * job.slots / cost if cost else 0.0

    def _first_end(self, speed: float) -> tuple[Job | None, float]:
        """Of those that have begun, and how long it takes from now."""
        first, least = None, NEVER
        depth = sum(job.slots for job in self._begun)
        for job in self._begun:
            work = max(job.left, 0.0) * at_depth(job.costs, depth) * S / job.slots
            wait = work / speed if speed else NEVER
            if wait < least:
                first, least = job, wait
        return first, least

    def _share(self) -> None:
        """Begin what may begin, and give out the slots: one to each that has begun, then urgent ones first."""
        limits = self._limits
        self._waiting.sort(key=lambda job: job.order)
        background = sum(job.is_gather and not job.is_urgent for job in self._begun)
        for job in list(self._waiting):
            if len(self._begun) >= min(limits.requests, limits.slots):
                break
            if job.is_gather and not job.is_urgent:
                if background >= limits.background_gathers:
                    continue
                background += 1
            self._waiting.remove(job)
            self._begun.append(job)
            job.begun_ns = self._now
        is_urgent = any(job.is_urgent for job in (*self._begun, *self._waiting))
        free = limits.slots - len(self._begun)
        for job in sorted(self._begun, key=lambda job: job.order):
            most = limits.yielding_depth if is_urgent and not job.is_urgent else limits.gather_depth
            more = min(free, min(job.reads, most) - 1)
            job.slots = 1 + more
            free -= more
