"""Links inside one process and thread: what the launcher `in-process` joins actors with."""

import time
from collections.abc import Callable

from tidemill.runtime.links.queue_link import QueueLink
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.link.ends import make_back, make_droppable, make_out
from tidemill.runtime.stress.link.job import BACK, DROPPING, OUT, LinkJob
from tidemill.runtime.stress.link.run import NS, WARM_UP, SlowRun, send_for, send_timed


class QueueWire:
    """Implements Wire. Writer and reader are one thread, so a reader that is too slow is one that does not read: a
    certain message is refused at once, as no waiting would help."""

    def __init__(self, job: LinkJob, is_stopped: Callable[[], bool]) -> None:
        self._size = job.payload_bytes
        self._is_stopped = is_stopped

    def close(self) -> None:
        """Nothing is held."""

    def round_trips(self, what: str, seconds: float) -> LatencyHistogram:
        out, back = QueueLink(OUT), QueueLink(BACK)
        histogram, latencies, count = LatencyHistogram(), [0], 0
        latencies.clear()
        until = time.perf_counter_ns() + round(seconds * NS)
        while (before := time.perf_counter_ns()) < until and not self._is_stopped():
            out.send(make_out(count, self._size))
            out.receive()
            back.send(make_back(count, self._size))
            back.receive()
            if count >= WARM_UP:
                latencies.append(time.perf_counter_ns() - before)
            count += 1
        histogram.add(latencies)
        return histogram

    def flood(self, seconds: float, on_count: Callable[[int], None]) -> tuple[int, int]:
        link = QueueLink(OUT)

        def send(sequence: int) -> bool:
            link.send(make_out(sequence, self._size))
            return link.receive() is not None

        begun = time.perf_counter_ns()
        sent, _ = send_for(send, seconds, self._is_stopped, on_count)
        return sent, time.perf_counter_ns() - begun

    def slow(self, seconds: float) -> SlowRun:
        link = QueueLink(OUT)
        begun = time.perf_counter_ns()
        sent, waited_ns, latencies, error = send_timed(
            lambda sequence: link.send(make_out(sequence, self._size)), seconds, self._is_stopped
        )
        elapsed_ns = time.perf_counter_ns() - begun
        return SlowRun(sent, sent - _drain(link), error, latencies, waited_ns, elapsed_ns)

    def dropping(self, seconds: float) -> tuple[int, int, int]:
        link = QueueLink(DROPPING)
        sent, _ = send_for(
            lambda sequence: link.send(make_droppable(sequence, self._size)), seconds, self._is_stopped, lambda _: None
        )
        return sent, link.dropped, sent - link.dropped - _drain(link)

    def stuck(self) -> tuple[float, str]:
        """The same as slow: there is no waiting."""
        run = self.slow(1.0)
        return 0.0, run.error


def _drain(link: QueueLink) -> int:
    count = 0
    while link.receive() is not None:
        count += 1
    return count
