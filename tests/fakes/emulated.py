"""Emulated drives over nothing at all, by a clock that jumps to whatever is due: what rates come out, in no time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.fakes.instant_flash import InstantFlash
from tidemill.storage.devices.device import FlashDevice, ReadOutcome, ReadRequest
from tidemill.storage.devices.emulated.device import EmulatedDevice, Tally
from tidemill.storage.devices.emulated.plain_reads import PlainReads
from tidemill.storage.devices.emulated.spec import Emulation, parse_device
from tidemill.storage.devices.gather import GatherRequest


def emulation(text: str) -> Emulation:
    found = parse_device(text)
    assert found is not None
    return found


class FakeClock:
    """Implements Alarm too."""

    wake_fds: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.at_ns: int | None = None

    def __call__(self) -> int:
        return self.now_ns

    def set(self, at_ns: int | None) -> None:
        self.at_ns = at_ns

    def close(self) -> None:
        pass

    def jump(self) -> None:
        """To the moment that was set."""
        assert self.at_ns is not None, "nobody waits for anything"
        self.now_ns = max(self.now_ns, self.at_ns)


class FakeDrive:
    """An emulated drive of `text`, over a device that reads nothing (or `below`)."""

    def __init__(
        self,
        text: str,
        *,
        depth: int = 4,
        shards: Sequence[Path] = (),
        arena: npt.NDArray[np.uint8] | None = None,
        below: FlashDevice | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.below = InstantFlash()
        self.tallies = np.zeros(len(Tally), np.int64)
        plain = PlainReads(shards, np.zeros(1 << 20, np.uint8) if arena is None else arena)
        self.device = EmulatedDevice(
            below or self.below,
            emulation(text),
            plain,
            depth=depth,
            alarm=self.clock,
            tallies=self.tallies,
            clock_ns=self.clock,
        )

    def wait(self) -> Sequence[ReadOutcome]:
        """The next outcomes, whenever they are due."""
        while not (outcomes := self.device.outcomes()):
            self.clock.jump()
        return outcomes

    def seconds(self, sizes: Sequence[int]) -> list[float]:
        """Reads one after the other: what each took."""
        took = []
        for ticket, size in enumerate(sizes):
            begun = self.clock.now_ns
            self.device.submit(read_of(ticket, size), urgent=False)
            assert [outcome.ticket for outcome in self.wait()] == [ticket]
            took.append((self.clock.now_ns - begun) / 1e9)
        return took

    def rate(self, size: int, depth: int, reads: int) -> float:
        """Bytes per second with `depth` reads of a size at any time, after as many have ended as there were."""
        done = begun_ns = 0
        for ticket in range(depth):
            self.device.submit(read_of(ticket, size), urgent=False)
        while done < depth + reads:
            for outcome in self.wait():
                assert outcome.error is None
                done += 1
                if done == depth:
                    begun_ns = self.clock.now_ns
                self.device.submit(read_of(depth + done, size), urgent=False)
        return (done - depth) * size / (self.clock.now_ns - begun_ns) * 1e9


def read_of(ticket: int, size: int, *, offset: int = 0) -> ReadRequest:
    return ReadRequest(ticket, 0, offset, size, size, "raw", (), 0, 0)


def gather_of(ticket: int, reads: int, *, bundle_bytes: int = 4096, apart: int = 8192) -> GatherRequest:
    """Of one bundle each."""
    return GatherRequest(
        ticket=ticket,
        shards=np.zeros(reads, np.int64),
        offsets=np.arange(reads) * apart,
        edges=np.arange(reads + 1),
        starts=np.zeros(reads, np.int64),
        slots=np.arange(reads),
        bundle_bytes=bundle_bytes,
        pool_offset=0,
        alignment=4096,
    )
