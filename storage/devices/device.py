"""The protocol of a flash device: tickets in, verified bytes in the arena out. It never blocks its caller."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple, Protocol

from tidemill.storage.devices.gather import GatherRequest
from tidemill.storage.errors import FailureKind

# direct: past the page cache, straight into the slot. staged: past it into a buffer of huge pages, then copied to the
# slot. buffered: through the page cache.
LoadMode = Literal["direct", "staged", "buffered"]
LOAD_MODES: tuple[LoadMode, ...] = ("direct", "staged", "buffered")


class ReadRequest(NamedTuple):
    """One read of `stored_bytes` at `offset` of a shard, verified, decoded to `destination` of the arena region.

    `offset` and `destination` are multiples of 4096. The device may read up to the next multiple of 4096 past
    `stored_bytes`, and for a codec that is the identity may write that much at `destination`. `checksums` are xxh3_64
    digests of consecutive `checksum_block_bytes` blocks of the stored bytes (0: one digest for them all); without any,
    bytes are taken as they come. `check` looks at the placed bytes; what it raises is the read's error.
    """

    ticket: int
    shard: int
    offset: int
    stored_bytes: int
    decoded_bytes: int
    codec: str
    checksums: tuple[int, ...]
    checksum_block_bytes: int
    destination: int
    check: Callable[[memoryview], None] | None = None


class ReadOutcome(NamedTuple):
    """How a ticket ended. `error` is None on success, and `kind` with it; `cancelled` tickets have touched nothing or
    anything in their slot. `begun_ns`, `ended_ns`: while it was under way (perf_counter); 0 where a device does not
    say. `failed_read`: of a gather, which of its reads is to blame, where that is known; nothing is known of the
    others then."""

    ticket: int
    error: str | None
    cancelled: bool
    begun_ns: int = 0
    ended_ns: int = 0
    kind: FailureKind | None = None
    failed_read: int | None = None


class FlashDevice(Protocol):
    """At most `depth` requests are under way at once; further ones queue inside, demand first (`urgent`)."""

    @property
    def load_mode(self) -> LoadMode: ...  # the one in force, not the one asked for

    @property
    def busy_ns(self) -> int: ...  # time with at least one read under way

    @property
    def wake_fds(self) -> Sequence[int]: ...  # readable when outcomes() has something

    def submit(self, request: ReadRequest, *, urgent: bool) -> None: ...

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None: ...  # one outcome for all of it

    def cancel(self, ticket: int) -> None: ...  # its outcome comes all the same

    def promote(self, tickets: Collection[int]) -> None: ...  # what of them has not begun is urgent from here on

    def outcomes(self) -> Sequence[ReadOutcome]: ...

    def close(self) -> None: ...  # waits for reads under way; closes files
