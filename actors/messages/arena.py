"""What the arena tells compute and asks the reader for."""

from tidemill.actors.messages.message import ActorMessage

# --- arena -> compute


class BundlesReady(ActorMessage, frozen=True, tag=50):
    """Extents that lie in slots now (packed u32 extent, slot, generation, …)."""

    epoch: int
    placed: bytes


class RowsReady(ActorMessage, frozen=True, tag=51):
    """The demanded bundles, in the order of the demand: packed u32 slot, generation, byte offset inside the slot."""

    request: int
    epoch: int
    placed: bytes


class BundlesUnavailable(ActorMessage, frozen=True, tag=52):
    """These bundles cannot be had (read or checksum failure after retries); the step that needs them fails."""

    epoch: int
    what: str


class BundlesPlaced(ActorMessage, frozen=True, tag=53):
    """Where the bundles of a visit lie, in its order: packed u32 slots of the table's pool."""

    request: int
    slots: bytes


# --- arena -> reader


class Read(ActorMessage, frozen=True):
    """One ticket: `stored_bytes` of `extent` from its byte `start`, decoded to `destination` in the arena.

    A whole extent (start 0), or the checksum blocks that hold one row.
    """

    ticket: int
    extent: int
    start: int
    stored_bytes: int
    destination: int  # byte offset in the arena region, a multiple of 4096
    demand: bool


class ReadBundles(ActorMessage, frozen=True, tag=60):
    reads: tuple[Read, ...]


class CancelReads(ActorMessage, frozen=True, tag=61):
    """Give these tickets up if they have not begun; each is answered all the same, as read or as cancelled."""

    tickets: bytes


class PromoteReads(ActorMessage, frozen=True, tag=63):
    """What these tickets read is waited for now: those that have not begun go before whatever is not demanded."""

    tickets: bytes


class GatherBundles(ActorMessage, frozen=True, tag=62):
    """One ticket: single bundles of a table of self-contained bundles (packed u32 ids in the table, rising), each into
    a slot of the table's pool (packed u32)."""

    ticket: int
    table: int
    bundles: bytes
    slots: bytes
    demand: bool
