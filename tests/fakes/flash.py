"""A flash device out of memory: it completes reads in an order, after delays and with faults drawn from a seed."""

import errno
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.storage.arena_plan import align_up
from tidemill.storage.checksums import verify_blocks
from tidemill.storage.codecs.bundle_digest import verify_bundles
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.device import LoadMode, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import GatherRequest
from tidemill.storage.errors import StorageError, failure_kind, short_read_error
from tidemill.storage.manifest import Manifest


@dataclass(frozen=True)
class Faults:
    """Chances per read (0..1): nothing comes yet, an I/O error, a flipped bit, an end of file too early."""

    delay: float = 0.0
    error: float = 0.0
    corrupt: float = 0.0
    short: float = 0.0


class FakeFlash:
    """Implements FlashDevice. Slots are written at the moment of completion and scribbled over before: reading early
    shows."""

    def __init__(
        self, shards: Sequence[bytes], arena: npt.NDArray[np.uint8], *, seed: int = 0, faults: Faults | None = None
    ) -> None:
        self._shards = list(shards)
        self._arena = arena
        self._random = random.Random(seed)
        self._faults = faults or Faults()
        self._open: list[tuple[ReadRequest | GatherRequest, bool]] = []
        self._cancelled: set[int] = set()
        self.load_mode: LoadMode = "direct"
        self.busy_ns = 0
        self.wake_fds: Sequence[int] = ()
        self.submitted: list[ReadRequest] = []
        self.gathered: list[GatherRequest] = []
        self.closed = False
        self._reading = 0  # of a gather

    @classmethod
    def of_model(
        cls,
        directory: Path,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        *,
        seed: int,
        faults: Faults | None = None,
    ) -> "FakeFlash":
        return cls([(directory / s.file).read_bytes() for s in manifest.shards], arena, seed=seed, faults=faults)

    def submit(self, request: ReadRequest, *, urgent: bool) -> None:
        self.submitted.append(request)
        self._open.append((request, urgent))
        size = align_up(request.stored_bytes) if get_codec(request.codec).is_identity else request.decoded_bytes
        self._arena[request.destination : request.destination + size] = 0xA5

    def submit_gather(self, request: GatherRequest, *, urgent: bool) -> None:
        self.gathered.append(request)
        self._open.append((request, urgent))
        for slot in request.slots.tolist():
            at = request.pool_offset + slot * request.bundle_bytes
            self._arena[at : at + request.bundle_bytes] = 0xA5

    def cancel(self, ticket: int) -> None:
        self._cancelled.add(ticket)

    def promote(self, tickets: Collection[int]) -> None:
        self._open = [(request, urgent or request.ticket in tickets) for request, urgent in self._open]

    def outcomes(self) -> Sequence[ReadOutcome]:
        if not self._open or self._random.random() < self._faults.delay:
            return []
        urgent = [pair for pair in self._open if pair[1]]
        pair = self._random.choice(urgent or self._open)
        self._open.remove(pair)
        request = pair[0]
        if request.ticket in self._cancelled:
            self._cancelled.discard(request.ticket)
            return [ReadOutcome(request.ticket, None, True)]
        try:
            if isinstance(request, GatherRequest):
                self._gather(request)
            else:
                self._read(request)
        except (StorageError, OSError) as error:
            return [self._failure(request, error)]
        return [ReadOutcome(request.ticket, None, False)]

    def _failure(self, request: ReadRequest | GatherRequest, error: Exception) -> ReadOutcome:
        read = self._reading if isinstance(request, GatherRequest) else None
        return ReadOutcome(request.ticket, str(error), False, kind=failure_kind(error), failed_read=read)

    def replace_shard(self, shard: int, data: bytes) -> None:
        self._shards[shard] = data

    def close(self) -> None:
        self.closed = True

    def _read(self, request: ReadRequest) -> None:
        stored = self._load(request.shard, request.offset, request.stored_bytes)
        verify_blocks(bytes(stored), request.checksums, request.checksum_block_bytes, "fake flash")
        out = self._arena[request.destination : request.destination + request.decoded_bytes]
        get_codec(request.codec).decode(0, memoryview(bytes(stored)), out.data)
        if request.check is not None:
            request.check(out.data)

    def _gather(self, request: GatherRequest) -> None:
        size, edges = request.bundle_bytes, request.edges.tolist()
        for read, (shard, offset) in enumerate(zip(request.shards.tolist(), request.offsets.tolist(), strict=True)):
            self._reading = read
            first, last = edges[read], edges[read + 1]
            starts = request.starts[first:last]
            stored = self._load(shard, offset, int(starts[-1]) + size)
            if request.check is not None:
                ids = request.check.bundles[first:last].tolist()
                verify_bundles(memoryview(stored), starts, size, request.check.table_id, ids)
            for start, slot in zip(starts.tolist(), request.slots[first:last].tolist(), strict=True):
                at = request.pool_offset + slot * size
                self._arena[at : at + size] = np.frombuffer(stored, np.uint8)[start : start + size]

    def _load(self, shard: int, offset: int, needed: int) -> bytearray:
        stored = bytearray(self._shards[shard][offset : offset + needed])
        if self._random.random() < self._faults.error:
            raise OSError(errno.EIO, "injected I/O error")
        if self._random.random() < self._faults.short:
            del stored[len(stored) // 2 :]
        if stored and self._random.random() < self._faults.corrupt:
            stored[self._random.randrange(len(stored))] ^= 0x10
        if len(stored) < needed:
            whole = len(self._shards[shard])
            raise short_read_error("fake flash", offset, needed=needed, reached=len(stored), file_bytes=whole)
        return stored
