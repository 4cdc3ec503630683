"""A flash device that has read everything before it was asked: what is left is what a wrapper adds."""

from collections.abc import Collection, Sequence

from tidemill.storage.devices.device import LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import GatherRequest


class InstantFlash:
    """Implements FlashDevice. Outcomes of tickets in `held` come only once they are taken out of it."""

    load_mode: LoadMode = "direct"
    busy_ns = 0
    wake_fds: Sequence[int] = ()

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.cancelled: list[int] = []
        self.promoted: list[int] = []
        self._open: list[int] = []

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        self._open.append(request.ticket)

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        self._open.append(request.ticket)

    def cancel(self, ticket: int) -> None:
        self.cancelled.append(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        self.promoted.extend(tickets)

    def outcomes(self) -> Sequence[ReadOutcome]:
        done = [ticket for ticket in self._open if ticket not in self.held]
        self._open = [ticket for ticket in self._open if ticket in self.held]
        return [ReadOutcome(ticket, None, ticket in self.cancelled) for ticket in done]

    def close(self) -> None:
        pass
