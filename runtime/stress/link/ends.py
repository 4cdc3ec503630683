"""One process's ends of the links of a link job: what is sent, and how a reader waits."""

import select
import time
from collections.abc import Callable

from tidemill.actors.messages import BundlesRead, CancelReads, InputSeen, Message
from tidemill.runtime.host import SLEEP_MS, SPIN_NS, drain_fifo
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.stress.link.job import WaitKind

PatientReceive = Callable[[], Message]
SEQUENCE_BYTES = 8
LOOKS = 4096  # of a spinning reader between two looks at who waits for it


class AbandonedError(Exception):
    """Nobody will send any more."""


def payload_of(sequence: int, size: int) -> bytes:
    return sequence.to_bytes(SEQUENCE_BYTES, "little") + bytes(size - SEQUENCE_BYTES)


def make_out(sequence: int, size: int) -> CancelReads:
    """An empty one ends a phase: `END`."""
    return CancelReads(payload_of(sequence, size))


def make_back(sequence: int, size: int) -> BundlesRead:
    return BundlesRead(payload_of(sequence, size))


def make_droppable(sequence: int, size: int) -> InputSeen:
    return InputSeen(sequence & 0xFFFFFFFF, 0, 0, payload_of(sequence, size), b"")


END = CancelReads(b"")


def sequence_of(message: Message) -> int:
    """-1: of END."""
    match message:
        case CancelReads(tickets=payload) | BundlesRead(tickets=payload) | InputSeen(bundles=payload):
            return int.from_bytes(payload[:SEQUENCE_BYTES], "little") if payload else -1
        case _:
            raise TypeError(f"no link job sends {type(message).__name__}")


class RingReader:
    """The reading end of a ring, with a way to wait."""

    def __init__(self, link: RingLink, wake_fd: int, wait: WaitKind, is_abandoned: Callable[[], bool]) -> None:
        self._link = link
        self._wake_fd = wake_fd
        self._wait = wait
        self._is_abandoned = is_abandoned
        self._poller = select.poll()
        self._poller.register(wake_fd, select.POLLIN)

    def receive(self) -> Message:
        """The next message, whenever it comes. Raises AbandonedError, LinkError."""
        while True:
            message = self._spin()
            if message is not None:
                return message
            if self._wait != "spin":
                self._sleep()
            if self._is_abandoned():
                raise AbandonedError

    def _spin(self) -> Message | None:
        link = self._link
        if self._wait == "block":
            return link.receive()
        if self._wait == "spin":
            for _ in range(LOOKS):
                if (message := link.receive()) is not None:
                    return message
            return None
        until = time.perf_counter_ns() + SPIN_NS
        while (message := link.receive()) is None and time.perf_counter_ns() < until:
            pass
        return message

    def _sleep(self) -> None:
        self._link.set_sleeping(True)
        try:
            if self._link.is_empty and self._poller.poll(SLEEP_MS):
                drain_fifo(self._wake_fd)
        finally:
            self._link.set_sleeping(False)


def pause(nanoseconds: int) -> None:
    """As a reader that computes: on its core."""
    until = time.perf_counter_ns() + nanoseconds
    while time.perf_counter_ns() < until:
        pass


def now_and_then(ask: Callable[[], bool]) -> Callable[[], bool]:
    """The same question, put at most every millisecond: a system call takes as long as a message. No in between."""
    asked_ns = 0

    def look() -> bool:
        nonlocal asked_ns
        now_ns = time.perf_counter_ns()
        if now_ns - asked_ns < 1_000_000:
            return False
        asked_ns = now_ns
        return ask()

    return look
