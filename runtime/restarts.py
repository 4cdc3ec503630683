"""Whether a cell that lost an actor is opened again. It knows no cell: it counts, and says no where that is in vain."""

from tidemill.runtime.launchers.launcher import ActorDiedError, OutOfMemoryError

MOST_RESTARTS = 3  # in a row without a token between them


class Restarts:
    def __init__(self, most: int) -> None:
        """`most` in a row; 0: none at all."""
        self._most = most
        self._in_vain = 0
        self.count = 0

    @property
    def end(self) -> str:
        """Why there is no further one, where there were some; otherwise empty."""
        return f"no token came after {self._most} restarts" if 0 < self._most == self._in_vain else ""

    def admit(self, death: ActorDiedError) -> bool:
        """Count one after this `death`. False where there is to be none: none are wanted, or memory was too small,
        which it would be again."""
        if self._in_vain == self._most or isinstance(death, OutOfMemoryError):
            return False
        self._in_vain += 1
        self.count += 1
        return True

    def progressed(self) -> None:
        """A token came."""
        self._in_vain = 0
