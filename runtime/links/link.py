"""The protocol of a link, and its errors. A link carries the messages of one row of `actors.wiring.LINKS`."""

from typing import Protocol

from tidemill.actors.messages import Message


class LinkError(RuntimeError):
    """A link that cannot be used further: damaged, or full for longer than its deadline."""


class Link(Protocol):
    """Messages arrive once, in order, equal to what was sent."""

    @property
    def dropped(self) -> int: ...

    def send(self, message: Message) -> bool:
        """False when a droppable message was dropped because the link is full.

        A certain message waits for room; raises LinkError when that takes longer than the deadline, ValueError for a
        message that never fits.
        """
        ...

    def receive(self) -> Message | None:
        """The next message, or None. Raises LinkError for bytes that are no message of this link."""
        ...
