"""Whether a cell that lost an actor is opened again. It knows no cell: it counts, and says no where that is in vain."""

from tidemill.runtime.launchers.launcher import ActorDiedError, OutOfMemoryError

MOST_RESTARTS = 3  # in a row without a token between them


class Restarts:
    def __init__(self, most: int) -> None:
        """`most` in a row; 0: none at all."""
        self._most = most
        self._in_vain = 0
        self.count = 0

    def admit(self, error: ActorDiedError) -> None:
        """Count a restart after `error`. Raises it where there is to be none: none are wanted, memory was too small,
        which it would be again, or that many restarts brought no token."""
        if self._most == 0 or isinstance(error, OutOfMemoryError):
            raise error
        if self._in_vain == self._most:
            raise ActorDiedError(f"{error}\nno token came after {self._most} restarts; this was the last") from error
        self._in_vain += 1
        self.count += 1

    def progressed(self) -> None:
        """A token came."""
        self._in_vain = 0
