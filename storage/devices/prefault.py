"""Gives memory its pages ahead of use, many at a time: a fault for each costs several times as much."""

import ctypes

MADV_POPULATE_WRITE = 23  # Linux 5.14


class Prefaulter:
    """Remembers which runs of a buffer it has asked for; asking twice costs nothing."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._known: set[int] = set()
        self._madvise = getattr(ctypes.CDLL(None), "madvise", None)

    def populate(self, offset: int, length: int) -> None:
        """Where the system can't, pages come when they are touched, as always."""
        if self._madvise is None or offset in self._known:
            return
        self._known.add(offset)
        place, size = ctypes.c_void_p(self._address + offset), ctypes.c_size_t(length)
        if self._madvise(place, size, MADV_POPULATE_WRITE) != 0:
            self._madvise = None
