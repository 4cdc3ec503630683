"""Gathers of which a read failed: they go on in pieces, so that only that read's tries are counted, and no good one is
held up by it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from tidemill.actors.messages import GatherBundles
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.devices.gather import I64


class Ended(NamedTuple):
    """A ticket, or a piece of one, is answered: `error` empty and not cancelled: it is read."""

    ticket: int
    error: str = ""
    is_cancelled: bool = False


@dataclass(slots=True)
class _Whole:
    open: set[int] = field(default_factory=set)  # tickets of pieces
    error: str = ""  # the first
    is_cancelled: bool = False


class GatherPieces:
    """Pieces have tickets below 0, which no other tickets are. A piece may be split like a whole one."""

    def __init__(self) -> None:
        self._wholes: dict[int, _Whole] = {}
        self._whole_of: dict[int, int] = {}
        self._made = 0

    def split(self, read: GatherBundles, edges: I64, failed: int, *, demand: bool) -> Sequence[GatherBundles]:
        """The bundles of read `failed`, then those before and behind it, if any. `edges`: read r brings bundles
        edges[r] .. edges[r + 1]."""
        bundles, slots = unpack_ids(read.bundles), unpack_ids(read.slots)
        first, last = int(edges[failed]), int(edges[failed + 1])
        pieces: list[GatherBundles] = []
        for start, stop in ((first, last), (0, first), (last, len(bundles))):
            if start < stop:
                self._made += 1
                parts = {"bundles": pack_ids(bundles[start:stop]), "slots": pack_ids(slots[start:stop])}
                pieces.append(msgspec.structs.replace(read, ticket=-self._made, demand=demand, **parts))
        ticket = self._whole_of.pop(read.ticket, read.ticket)
        whole = self._wholes.setdefault(ticket, _Whole())
        whole.open.discard(read.ticket)
        for piece in pieces:
            whole.open.add(piece.ticket)
            self._whole_of[piece.ticket] = ticket
        return pieces

    def pieces_of(self, ticket: int) -> Sequence[int]:
        """The open ones of a ticket that was split; of any other, itself."""
        whole = self._wholes.get(ticket)
        return [ticket] if whole is None else sorted(whole.open)

    def beside(self, ticket: int) -> Sequence[int]:
        """The open pieces of the same gather."""
        return [other for other in self.pieces_of(self._whole_of.get(ticket, ticket)) if other != ticket]

    def end(self, ended: Ended) -> Ended | None:
        """How the whole ended, if this was the last of it: in an error if any did, else cancelled if any was."""
        if ended.ticket >= 0:
            return ended
        ticket = self._whole_of.pop(ended.ticket)
        whole = self._wholes[ticket]
        whole.open.discard(ended.ticket)
        whole.error = whole.error or ended.error
        whole.is_cancelled = whole.is_cancelled or ended.is_cancelled
        if whole.open:
            return None
        del self._wholes[ticket]
        return Ended(ticket, whole.error, whole.is_cancelled and not whole.error)
