"""A flash device that is watched: what was asked of it, and when each read was under way."""

from collections.abc import Collection, Sequence

from tidemill.runtime.stress.report import MadeRead
from tidemill.storage.devices.device import FlashDevice, LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import GatherRequest


class ObservedDevice:
    """Implements FlashDevice by another one."""

    def __init__(self, device: FlashDevice, *, reads_kept: int = 0) -> None:
        """`reads_kept`: how many of the first reads are noted, for a peer to do the same."""
        self._device = device
        self._kept = reads_kept
        self.made: list[MadeRead] = []
        self.begun_ns: dict[int, int] = {}  # of answered tickets, until they are taken out
        self.active_ns = 0  # summed over reads

    @property
    def load_mode(self) -> LoadMode:
        return self._device.load_mode

    @property
    def busy_ns(self) -> int:
        return self._device.busy_ns

    @property
    def wake_fds(self) -> Sequence[int]:
        return self._device.wake_fds

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        if len(self.made) < self._kept:
            self.made.append(MadeRead(request.shard, request.offset, request.stored_bytes))
        self._device.submit(request, urgent=urgent)

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        if len(self.made) < self._kept:
            self.made += _reads_of(request)
        self._device.submit_gather(request, urgent=urgent)

    def cancel(self, ticket: int) -> None:
        self._device.cancel(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        self._device.promote(tickets)

    def outcomes(self) -> Sequence[ReadOutcome]:
        outcomes = self._device.outcomes()
        for outcome in outcomes:
            self.begun_ns[outcome.ticket] = outcome.begun_ns
            self.active_ns += outcome.ended_ns - outcome.begun_ns
        return outcomes

    def close(self) -> None:
        self._device.close()


def _reads_of(request: GatherRequest) -> list[MadeRead]:
    ends = request.starts[request.edges[1:] - 1] + request.bundle_bytes
    sizes = -(-ends // request.alignment) * request.alignment
    return [
        MadeRead(*read) for read in zip(request.shards.tolist(), request.offsets.tolist(), sizes.tolist(), strict=True)
    ]
