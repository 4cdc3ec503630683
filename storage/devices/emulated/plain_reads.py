"""Reads in plain Python, with damage on the way: what the real device does in one call, from bytes that something went
wrong with."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import verify_blocks
from tidemill.storage.codecs.bf16_bundles import find_bad_lists
from tidemill.storage.codecs.bundle_digest import verify_bundles
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.device import ReadOutcome, ReadRequest
from tidemill.storage.devices.emulated.faults import Hit
from tidemill.storage.devices.gather import I64, BundleCheck, GatherRequest
from tidemill.storage.errors import CorruptDataError, StorageError, failure_kind, read_error, short_read_error

FLIPPED_BIT = 0x10


class Places(NamedTuple):
    """The reads of a request: where they begin, and what is needed of each."""

    shards: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]


def places_of(request: ReadRequest | GatherRequest) -> Places:
    if isinstance(request, ReadRequest):
        return Places((request.shard,), (request.offset,), (request.stored_bytes,))
    needed = request.starts[request.edges[1:] - 1] + request.bundle_bytes
    return Places(request.shards.tolist(), request.offsets.tolist(), needed.tolist())


class PlainReads:
    """Places bytes in the arena as the real device does, verified by whatever the request brings for that."""

    def __init__(self, shards: Sequence[Path], arena: npt.NDArray[np.uint8]) -> None:
        self._paths = list(shards)
        self._arena = arena.data

    def run(self, request: ReadRequest | GatherRequest, hit: Hit) -> ReadOutcome:
        try:
            if hit.kind == "flip":
                self._place(request, hit)
            else:
                raise self._refusal(request, hit)
        except (StorageError, OSError) as failure:
            read = failure.gather_read if isinstance(failure, StorageError) else None
            return ReadOutcome(request.ticket, str(failure), False, kind=failure_kind(failure), failed_read=read)
        return ReadOutcome(request.ticket, None, False)

    def _refusal(self, request: ReadRequest | GatherRequest, hit: Hit) -> StorageError:
        places = places_of(request)
        shard, offset, needed = (values[hit.read] for values in places)
        path = self._paths[shard]
        if hit.kind == "eio":
            refusal = read_error(f"{path} at offset {offset}", errno.EIO)
        else:
            size = path.stat().st_size
            refusal = short_read_error(str(path), offset, needed=needed, reached=needed // 2, file_bytes=size)
        refusal.gather_read = hit.read
        return refusal

    def _place(self, request: ReadRequest | GatherRequest, hit: Hit) -> None:
        places = places_of(request)
        for read, (shard, offset, needed) in enumerate(zip(*places, strict=True)):
            stored = self._load(shard, offset, needed)
            if read == hit.read:
                stored[hit.byte] ^= FLIPPED_BIT
            if isinstance(request, ReadRequest):
                self._place_extent(request, memoryview(stored))
            else:
                try:
                    self._place_bundles(request, read, memoryview(stored))
                except CorruptDataError as error:
                    error.gather_read = read
                    raise

    def _place_extent(self, request: ReadRequest, stored: memoryview) -> None:
        where = f"{self._paths[request.shard]} at offset {request.offset}"
        verify_blocks(stored, request.checksums, request.checksum_block_bytes, where)
        placed = self._arena[request.destination : request.destination + request.decoded_bytes]
        get_codec(request.codec).decode(0, stored, placed)
        if request.check is not None:
            request.check(placed)

    def _place_bundles(self, request: GatherRequest, read: int, stored: memoryview) -> None:
        size, check = request.bundle_bytes, request.check
        first, last = int(request.edges[read]), int(request.edges[read + 1])
        starts = request.starts[first:last]
        path = self._paths[int(request.shards[read])]
        if check is not None:
            self._check(check, check.bundles[first:last], starts, size, stored, path)
        for start, slot in zip(starts.tolist(), request.slots[first:last].tolist(), strict=True):
            at = request.pool_offset + slot * size
            self._arena[at : at + size] = stored[start : start + size]

    def _check(self, check: BundleCheck, ids: I64, starts: I64, size: int, stored: memoryview, path: Path) -> None:
        if check.by_digest:
            try:
                verify_bundles(stored, starts, size, check.table_id, ids.tolist())
            except CorruptDataError as error:
                raise CorruptDataError(f"{path}: {error}") from None
        if not check.segments:
            return
        bad = find_bad_lists(np.frombuffer(stored, np.uint8), starts, check.segments, check.capacity)
        if bad is not None:
            raise CorruptDataError(f"{path}: bundle {ids[bad]} of table {check.table_id} has exceptions out of order")

    def _load(self, shard: int, offset: int, needed: int) -> bytearray:
        path = self._paths[shard]
        with path.open("rb", buffering=0) as file:
            data = bytearray(os.pread(file.fileno(), needed, offset))
            os.posix_fadvise(file.fileno(), offset, needed, os.POSIX_FADV_DONTNEED)
        if len(data) < needed:
            size = path.stat().st_size
            raise short_read_error(str(path), offset, needed=needed, reached=len(data), file_bytes=size)
        return data
