"""What an actor is: a plain object that turns a message into messages. It never waits, sleeps, opens files or starts
threads.

Its devices (flash, kernels, counters) are constructor arguments; its host delivers messages and calls `poll`.
"""

from collections.abc import Sequence
from typing import Protocol

from tidemill.actors.messages import ActorName, Message


class Send(tuple[ActorName, Message]):
    """A message and the actor that it goes to."""

    __slots__ = ()

    def __new__(cls, to: ActorName, message: Message) -> "Send":
        return super().__new__(cls, (to, message))

    @property
    def to(self) -> ActorName:
        return self[0]

    @property
    def message(self) -> Message:
        return self[1]


class Actor(Protocol):
    """The contract that every launcher relies on.

    `handle` may compute for as long as one layer takes, not longer; `poll` is called after messages were handled, when
    a wake fd is readable, and again at once while `wants_poll` is true.
    """

    @property
    def name(self) -> ActorName: ...

    @property
    def wake_fds(self) -> Sequence[int]: ...

    @property
    def wants_poll(self) -> bool: ...

    def start(self) -> Sequence[Send]: ...

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]: ...

    def poll(self, now_ns: int) -> Sequence[Send]: ...

    def stop(self, *, drain: bool) -> Sequence[Send]: ...
