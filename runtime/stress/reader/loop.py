"""Orders to the reader actor and its answers, as the arena gives and takes them: a fixed number of tickets, each used
again as soon as it is answered."""

import select
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import BundlesRead, GatherBundles, Read, ReadBundles, ReadFailed
from tidemill.actors.packing import unpack_ids
from tidemill.actors.reader.actor import ReaderActor
from tidemill.runtime.stress.job import JobSurroundings, Progress
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.rate_series import RateSeries
from tidemill.runtime.stress.reader.observed_device import ObservedDevice
from tidemill.runtime.stress.reader.patterns import Order, Pattern, Place

WAIT_MS = 20
DRAIN_NS = 5_000_000_000  # for answers, once told to stop: a drive may hang
NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`passes` False: the pattern begins again whenever it is over. `rate`: bytes per second of what is ordered."""

    runtime_s: float | None
    passes: bool
    rate: int | None


@dataclass(slots=True)
class _Latencies:
    """Gathered as they come, counted now and then: a list is the cheapest place in between."""

    slat: LatencyHistogram
    clat: LatencyHistogram
    lat: LatencyHistogram
    fresh: list[tuple[int, int, int]]

    def settle(self) -> None:
        if self.fresh:
            for histogram, values in zip((self.slat, self.clat, self.lat), zip(*self.fresh, strict=True), strict=True):
                histogram.add(values)
            self.fresh.clear()


class Places(NamedTuple):
    """`tickets` orders at most are outstanding; their bytes go to `places` of `place_bytes` in turn."""

    tickets: int
    places: int
    place_bytes: int


class ReaderLoop:
    def __init__(
        self,
        actor: ReaderActor,
        device: ObservedDevice,
        pattern: Pattern,
        *,
        limits: Limits,
        counters: Counters,
        clock_ns: Callable[[], int],
    ) -> None:
        self._actor = actor
        self._device = device
        self._pattern = pattern
        self._limits = limits
        self._counters = counters
        self._clock_ns = clock_ns
        self._given: dict[int, int] = {}  # ticket -> when it was ordered
        self._ordered_bytes = 0
        self._begun_ns = 0
        self._is_over = False
        self._latencies = _Latencies(LatencyHistogram(), LatencyHistogram(), LatencyHistogram(), [])
        self.series = RateSeries(0)
        self.depths: Tally[int] = Tally()
        self.failures: list[str] = []
        self.orders = 0
        self.useful_bytes = 0
        self.elapsed_ns = 0
        self._sizes: dict[int, int] = {}  # ticket -> wanted bytes

    @property
    def slat(self) -> LatencyHistogram:
        return self._latencies.slat

    @property
    def clat(self) -> LatencyHistogram:
        return self._latencies.clat

    @property
    def lat(self) -> LatencyHistogram:
        return self._latencies.lat

    def run(self, places: Places, surroundings: JobSurroundings) -> None:
        """Ends when limits or surroundings say so and every ticket is answered; those of a drive that hangs are given
        up."""
        free = deque(Place(number, number * places.place_bytes) for number in range(places.places))
        spare = {place.number: place for place in free}
        poller = select.poll()
        wake_fds = self._actor.wake_fds
        for fd in wake_fds:
            poller.register(fd, select.POLLIN)
        self._begun_ns = self._clock_ns()
        self.series = RateSeries(self._begun_ns)
        stopped_ns = 0
        while True:
            self._order(free, places.tickets)
            if self._is_over and (not self._given or (stopped_ns and self._clock_ns() - stopped_ns > DRAIN_NS)):
                break
            if wake_fds:
                poller.poll(WAIT_MS if self._given else 1)
            free.extend(spare[number] for number in self._answers())
            now_ns = self._clock_ns()
            self._tell(now_ns, surroundings)
            if not stopped_ns and surroundings.is_stopped():
                stopped_ns = now_ns
            self._is_over = self._is_over or self._is_late(now_ns) or stopped_ns > 0
        self.elapsed_ns = self._clock_ns() - self._begun_ns
        self._latencies.settle()

    def _is_late(self, now_ns: int) -> bool:
        runtime_s = self._limits.runtime_s
        return runtime_s is not None and now_ns - self._begun_ns >= runtime_s * NS

    def _order(self, free: deque[Place], tickets: int) -> None:
        """As much as places, the pattern and the rate allow; single reads in one message, as the arena gives them."""
        reads: list[Read] = []
        now_ns = self._clock_ns()
        while len(self._given) < tickets and not self._is_over and self._is_due(now_ns):
            order = self._next(free[0])
            if order is None:
                break
            free.popleft()
            self.depths[len(self._given) + 1] += 1
            self._given[order.ticket] = now_ns
            if isinstance(order, Read):
                reads.append(order)
                self._sizes[order.ticket] = order.stored_bytes
            else:
                self._sizes[order.ticket] = 0  # the actor counts what gathers bring
                self._actor.handle(order, now_ns)
            self._ordered_bytes += self._bytes_of(order)
        if reads:
            self._actor.handle(ReadBundles(tuple(reads)), now_ns)

    def _next(self, place: Place) -> Order | None:
        order = self._pattern.next(place)
        if order is None and not self._limits.passes:
            order = self._pattern.next(place)
        self._is_over = self._is_over or order is None
        return order

    def _bytes_of(self, order: Order) -> int:
        """Of gathers, what the ones before brought on average: a limited rate needs no more."""
        if isinstance(order, GatherBundles):
            return int(self._counters[Counter.FLASH_BYTES]) // max(1, self.orders)
        return order.stored_bytes

    def _is_due(self, now_ns: int) -> bool:
        rate = self._limits.rate
        return rate is None or self._ordered_bytes * NS <= rate * (now_ns - self._begun_ns)

    def _answers(self) -> list[int]:
        """Tickets that were answered."""
        answered: list[int] = []
        for _, message in self._actor.poll(self._clock_ns()):
            if isinstance(message, BundlesRead):
                answered += unpack_ids(message.tickets).tolist()
            elif isinstance(message, ReadFailed):
                answered.append(message.ticket)
                self.failures.append(message.what)
                self._sizes[message.ticket] = 0
        now_ns = self._clock_ns()
        for ticket in answered:
            given_ns = self._given.pop(ticket)
            begun_ns = self._device.begun_ns.pop(ticket, 0) or given_ns
            self._latencies.fresh.append((max(0, begun_ns - given_ns), now_ns - begun_ns, now_ns - given_ns))
            self.useful_bytes += self._sizes.pop(ticket)
        self.orders += len(answered)
        return answered

    def _tell(self, now_ns: int, surroundings: JobSurroundings) -> None:
        sample = self.series.see(
            now_ns, int(self._counters[Counter.FLASH_BYTES]), int(self._counters[Counter.FLASH_READS])
        )
        if sample is None:
            return
        self._latencies.settle()
        elapsed_s = (now_ns - self._begun_ns) / NS
        surroundings.tell(
            Progress(
                elapsed_s=elapsed_s,
                expected_s=self._expected_s(elapsed_s),
                bytes_per_s=sample.bytes_per_s,
                ops_per_s=sample.ios_per_s,
                unit="IOPS",
                p50_ns=self.clat.percentile(50),
                p99_ns=self.clat.percentile(99),
            )
        )

    def _expected_s(self, elapsed_s: float) -> float:
        most = self._limits.runtime_s or 0.0
        done = int(self._counters[Counter.FLASH_BYTES])
        if not self._limits.passes or not done:
            return most
        whole = elapsed_s * max(1.0, self._pattern.pass_bytes / done)
        return min(most, whole) if most else whole
