"""Which failed reads are tried again, how often, and after which pause."""

from typing import Generic, NamedTuple, TypeVar

from tidemill.storage.errors import FailureKind

T = TypeVar("T")
PAUSE_GROWTH = 5  # each pause is so many times the one before: 1, 5, 25, 125 ms
REREADS = 1  # of bytes that are not those that were written: a bit may have flipped on the way


class Tries(NamedTuple):
    """How often a read was tried, with this time, and how many of those were after damage."""

    made: int = 1
    rereads: int = 0

    def next(self, kind: FailureKind | None, *, retries: int) -> "Tries | None":
        """After a failure; None: it has failed for good."""
        if kind == "corrupt" and self.rereads < REREADS:
            return Tries(self.made + 1, self.rereads + 1)
        if kind == "transient" and self.made - self.rereads <= retries:
            return Tries(self.made + 1, self.rereads)
        return None


def pause_ns(kind: FailureKind | None, tries: Tries, *, first_ns: int) -> int:
    """Before the next try. What is damaged stays so, or was damaged on the way: there is nothing to wait for."""
    return 0 if kind == "corrupt" else first_ns * int(PAUSE_GROWTH ** (tries.made - tries.rereads - 1))


class Pausing(Generic[T]):
    """Reads that wait for their next try, by ticket."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[int, T]] = {}

    def add(self, ticket: int, read: T, *, due_ns: int) -> None:
        self._due[ticket] = (due_ns, read)

    def drop(self, ticket: int) -> bool:
        """Whether it was there."""
        return self._due.pop(ticket, None) is not None

    def take_due(self, now_ns: int) -> list[T]:
        due = [ticket for ticket, (due_ns, _) in self._due.items() if due_ns <= now_ns]
        return [self._due.pop(ticket)[1] for ticket in due]

    @property
    def next_ns(self) -> int | None:
        return min((due_ns for due_ns, _ in self._due.values()), default=None)
