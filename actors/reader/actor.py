"""Turns read tickets into device requests and their outcomes into answers. It owns the device and nothing in the
arena."""

from collections.abc import Callable, Sequence

import numpy as np

from tidemill.actors.actor import Send
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import (
    ActorName,
    BundlesRead,
    CancelReads,
    GatherBundles,
    Message,
    PromoteReads,
    Read,
    ReadBundles,
    ReadFailed,
    ReadsCancelled,
)
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.actors.reader.config import ReaderConfig
from tidemill.actors.reader.gathers import GatherCount, GatherPlanner
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.device import LOAD_MODES, FlashDevice, ReadOutcome, ReadRequest
from tidemill.storage.draft_model import describe_table
from tidemill.storage.manifest import Extent, Manifest, Table
from tidemill.storage.read_choices import ReadChoices


class ReaderActor:
    """Every ticket is answered exactly once: read, cancelled or failed (after `retries` more tries)."""

    name = ActorName.READER
    wants_poll = False

    def __init__(self, config: ReaderConfig, manifest: Manifest, device: FlashDevice, counters: Counters) -> None:
        self._config = config
        self._manifest = manifest
        self._device = device
        self._counters = counters
        self._open: dict[int, tuple[Read | GatherBundles, int]] = {}  # ticket -> what, tries so far
        choices = ReadChoices(
            np.array(config.request_bytes, np.float64),
            np.array(config.request_s, np.float64),
            max_bytes=config.read_bytes_max,
        )
        self._gathers = GatherPlanner(manifest, config.bundles, choices)
        self._gather_counts: dict[int, GatherCount] = {}  # of open tickets

    @property
    def wake_fds(self) -> Sequence[int]:
        return self._device.wake_fds

    def start(self) -> Sequence[Send]:
        return []

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]:
        match message:
            case ReadBundles(reads=reads):
                for read in reads:
                    self._submit(read, now_ns, tries=1)
            case GatherBundles():
                self._submit(message, now_ns, tries=1)
            case CancelReads(tickets=tickets):
                for ticket in unpack_ids(tickets).tolist():
                    if ticket in self._open:
                        self._device.cancel(ticket)
            case PromoteReads(tickets=tickets):
                self._device.promote([t for t in unpack_ids(tickets).tolist() if t in self._open])
            case _:
                raise TypeError(f"reader has no use for {type(message).__name__}")
        return []

    def poll(self, now_ns: int) -> Sequence[Send]:
        done: list[int] = []
        cancelled: list[int] = []
        failed: list[Send] = []
        for outcome in self._device.outcomes():
            read, tries = self._open.pop(outcome.ticket)
            if outcome.cancelled:
                cancelled.append(outcome.ticket)
            elif outcome.error is None:
                done.append(outcome.ticket)
                self._count(read, now_ns)
            elif tries <= self._config.retries:
                self._counters[Counter.FLASH_RETRIES] += 1
                self._submit(read, now_ns, tries=tries + 1)
            else:
                failed.append(self._fail(read, tries, outcome))
            if outcome.ticket not in self._open:
                self._gather_counts.pop(outcome.ticket, None)
        self._counters[Counter.FLASH_BUSY_NS] = self._device.busy_ns
        self._counters[Counter.LOAD_MODE] = LOAD_MODES.index(self._device.load_mode)
        answers = failed
        if done:
            answers.append(Send(ActorName.ARENA, BundlesRead(pack_ids(done))))
        if cancelled:
            answers.append(Send(ActorName.ARENA, ReadsCancelled(pack_ids(cancelled))))
        return answers

    def stop(self, *, drain: bool) -> Sequence[Send]:
        self._device.close()
        return []

    def _submit(self, read: Read | GatherBundles, now_ns: int, *, tries: int) -> None:
        self._open[read.ticket] = (read, tries)
        if isinstance(read, GatherBundles):
            request, self._gather_counts[read.ticket] = self._gathers.plan(read, now_ns, tries=tries)
            self._device.submit_gather(request, urgent=read.demand)
        else:
            self._device.submit(self._request(read), urgent=read.demand)

    def _count(self, read: Read | GatherBundles, now_ns: int) -> None:
        if isinstance(read, GatherBundles):
            count = self._gather_counts[read.ticket]
            self._gathers.learn(count, now_ns)
            reads, read_bytes, useful_bytes = count.reads, count.read_bytes, count.useful_bytes
            self._counters[Counter.GATHERED_BYTES] += useful_bytes
            self._counters[Counter.GATHER_READS] += reads
            self._counters[Counter.GATHER_READ_BYTES] += read_bytes
        else:
            reads, read_bytes = 1, read.stored_bytes
        self._counters[Counter.FLASH_BYTES] += read_bytes
        self._counters[Counter.FLASH_READS] += reads

    def _request(self, read: Read) -> ReadRequest:
        extent = self._manifest.extents[read.extent]
        table = self._manifest.tables[extent.table]
        block = table.checksum_block_bytes
        checksums = extent.checksums
        whole = read.stored_bytes == extent.stored_bytes
        if not whole:  # some checksum blocks of a raw extent
            first = read.start // block
            checksums = checksums[first : first + -(-read.stored_bytes // block)]
        return ReadRequest(
            ticket=read.ticket,
            shard=extent.shard,
            offset=extent.offset + read.start,
            stored_bytes=read.stored_bytes,
            decoded_bytes=extent.bytes if whole else read.stored_bytes,
            codec=table.planes[extent.plane].codec,
            checksums=tuple(int(digest, 16) for digest in checksums),
            checksum_block_bytes=block,
            destination=read.destination,
            check=self._check_of(extent, table) if whole else None,
        )

    def _check_of(self, extent: Extent, table: Table) -> Callable[[memoryview], None]:
        codec = get_codec(table.planes[extent.plane].codec)
        bundles = extent.bundle_stop - extent.bundle_start
        return lambda placed: codec.check(extent.plane, placed, table, bundles)

    def _fail(self, read: Read | GatherBundles, tries: int, outcome: ReadOutcome) -> Send:
        if isinstance(read, GatherBundles):
            table = self._manifest.tables[read.table]
            bundles = len(unpack_ids(read.bundles))
            what = (
                f"{bundles} bundles of {table.role} from layer {table.layer} on could not be read in {tries} tries: "
                f"{outcome.error}"
            )
            return Send(ActorName.ARENA, ReadFailed(read.ticket, what))
        extent = self._manifest.extents[read.extent]
        table = self._manifest.tables[extent.table]
        what = (
            f"extent {read.extent} ({describe_table(table)}, bundles {extent.bundle_start}..{extent.bundle_stop}) "
            f"could not be read in {tries} tries: {outcome.error}"
        )
        return Send(ActorName.ARENA, ReadFailed(read.ticket, what))
