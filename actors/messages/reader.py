"""What the reader answers the arena."""

from tidemill.actors.messages.message import ActorMessage


class BundlesRead(ActorMessage, frozen=True, tag=70):
    """Tickets whose bytes lie verified in their destination (packed u32)."""

    tickets: bytes


class ReadsCancelled(ActorMessage, frozen=True, tag=71):
    tickets: bytes


class ReadFailed(ActorMessage, frozen=True, tag=72):
    """One ticket that failed for good; its destination holds nothing of worth."""

    ticket: int
    what: str
