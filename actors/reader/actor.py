"""Turns read tickets into device requests and their outcomes into answers. It owns the device and nothing in the
arena."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from tidemill.actors.reader.gather_pieces import Ended, GatherPieces
from tidemill.actors.reader.gathers import GatherCount, GatherPlanner
from tidemill.actors.reader.retries import Pausing, Tries, pause_ns
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.alarm import Alarm, NoAlarm
from tidemill.storage.devices.device import LOAD_MODES, FlashDevice, ReadOutcome, ReadRequest
from tidemill.storage.devices.gather import I64
from tidemill.storage.draft_model import describe_table
from tidemill.storage.manifest import Extent, Manifest, Table
from tidemill.storage.read_choices import ReadChoices

ADVICE = "; the drive keeps failing: look at its health (dmesg, smartctl) and move the model to another"


class _Try(NamedTuple):
    """Of a ticket, or of a piece of one."""

    read: Read | GatherBundles
    tries: Tries


class _Planned(NamedTuple):
    """Of an open gather."""

    asked: GatherCount
    edges: I64  # read r brings bundles edges[r] .. edges[r + 1]


class ReaderActor:
    """Every ticket is answered exactly once: read, cancelled or failed (after the tries that `retries.py` gives it)."""

    name = ActorName.READER
    wants_poll = False

    def __init__(
        self,
        config: ReaderConfig,
        manifest: Manifest,
        device: FlashDevice,
        counters: Counters,
        alarm: Alarm | None = None,
    ) -> None:
        """Without an alarm, a pause lasts until the host looks anyway."""
        self._config = config
        self._manifest = manifest
        self._device = device
        self._counters = counters
        self._alarm = alarm or NoAlarm()
        self._open: dict[int, _Try] = {}
        self._pausing: Pausing[_Try] = Pausing()
        self._promoted: set[int] = set()  # open tickets
        self._unwanted: set[int] = set()  # those that were cancelled
        choices = ReadChoices(
            np.array(config.request_bytes, np.float64),
            np.array(config.request_s, np.float64),
            max_bytes=config.read_bytes_max,
        )
        self._gathers = GatherPlanner(manifest, config.bundles, choices, is_verified=config.is_verified)
        self._planned: dict[int, _Planned] = {}  # of open tickets
        self._pieces = GatherPieces()

    @property
    def wake_fds(self) -> Sequence[int]:
        return (*self._device.wake_fds, *self._alarm.wake_fds)

    def start(self) -> Sequence[Send]:
        return []

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]:
        match message:
            case ReadBundles(reads=reads):
                for read in reads:
                    self._submit(_Try(read, Tries()), now_ns)
            case GatherBundles():
                self._submit(_Try(message, Tries()), now_ns)
            case CancelReads(tickets=tickets):
                return self._cancel(unpack_ids(tickets).tolist())
            case PromoteReads(tickets=tickets):
                wanted = [piece for ticket in unpack_ids(tickets).tolist() for piece in self._pieces.pieces_of(ticket)]
                promoted = [ticket for ticket in wanted if ticket in self._open]
                self._promoted.update(promoted)
                self._device.promote(promoted)
            case _:
                raise TypeError(f"reader has no use for {type(message).__name__}")
        return []

    def poll(self, now_ns: int) -> Sequence[Send]:
        if self._pausing.next_ns is not None:
            for again in self._pausing.take_due(now_ns):
                self._submit(again, now_ns)
            self._alarm.set(self._pausing.next_ns)
        ends: list[Ended] = []
        for outcome in self._device.outcomes():
            tried = self._open[outcome.ticket]
            if outcome.cancelled or (outcome.error is not None and outcome.ticket in self._unwanted):
                ended = Ended(outcome.ticket, is_cancelled=True)
            elif outcome.error is None:
                ended = Ended(outcome.ticket)
                self._count(tried.read, now_ns)
            elif self._try_again(tried, outcome, now_ns):
                continue
            else:
                ended = Ended(outcome.ticket, self._failure(tried, outcome))
                ends += self._drop(self._pieces.beside(outcome.ticket))
            self._forget(outcome.ticket)
            ends.append(ended)
        self._counters[Counter.FLASH_BUSY_NS] = self._device.busy_ns
        self._counters[Counter.LOAD_MODE] = LOAD_MODES.index(self._device.load_mode)
        return self._answers(ends) if ends else []

    def stop(self, *, drain: bool) -> Sequence[Send]:
        self._device.close()
        self._alarm.close()
        return []

    def _cancel(self, tickets: Sequence[int]) -> Sequence[Send]:
        pieces = [piece for ticket in tickets for piece in self._pieces.pieces_of(ticket)]
        return self._answers(self._drop(pieces))

    def _drop(self, tickets: Sequence[int]) -> list[Ended]:
        """Cancel these. What pauses between two tries has ended with that: the device has nothing of it."""
        pausing = [ticket for ticket in tickets if self._pausing.drop(ticket)]
        for ticket in pausing:
            self._forget(ticket)
        for ticket in tickets:
            if ticket in self._open:
                self._unwanted.add(ticket)
                self._device.cancel(ticket)
        return [Ended(ticket, is_cancelled=True) for ticket in pausing]

    def _answers(self, ends: Sequence[Ended]) -> list[Send]:
        """What the arena hears of these, once nothing of a ticket is open any more."""
        whole = [ended for end in ends if (ended := self._pieces.end(end)) is not None]
        answers = [Send(ActorName.ARENA, ReadFailed(ended.ticket, ended.error)) for ended in whole if ended.error]
        done = [ended.ticket for ended in whole if not (ended.error or ended.is_cancelled)]
        cancelled = [ended.ticket for ended in whole if ended.is_cancelled]
        if done:
            answers.append(Send(ActorName.ARENA, BundlesRead(pack_ids(done))))
        if cancelled:
            answers.append(Send(ActorName.ARENA, ReadsCancelled(pack_ids(cancelled))))
        return answers

    def _submit(self, tried: _Try, now_ns: int) -> None:
        read = tried.read
        self._open[read.ticket] = tried
        urgent = read.demand or read.ticket in self._promoted
        if isinstance(read, GatherBundles):
            is_first = tried.tries.made == 1 and read.ticket >= 0
            request, count = self._gathers.plan(read, now_ns, is_first=is_first)
            self._planned[read.ticket] = _Planned(count, request.edges)
            self._device.submit_gather(request, urgent=urgent)
        else:
            self._device.submit(self._request(read), urgent=urgent)

    def _try_again(self, tried: _Try, outcome: ReadOutcome, now_ns: int) -> bool:
        """False: it has failed for good."""
        tries = tried.tries.next(outcome.kind, retries=self._config.retries)
        if tries is None:
            return False
        self._counters[Counter.FLASH_REREADS if outcome.kind == "corrupt" else Counter.FLASH_RETRIES] += 1
        again = _Try(self._to_blame(tried, outcome, now_ns), tries)
        pause = pause_ns(outcome.kind, tried.tries, first_ns=self._config.pause_ns)
        if pause:
            self._open[again.read.ticket] = again
            self._pausing.add(again.read.ticket, again, due_ns=now_ns + pause)
            self._alarm.set(self._pausing.next_ns)
        else:
            self._submit(again, now_ns)
        return True

    def _to_blame(self, tried: _Try, outcome: ReadOutcome, now_ns: int) -> Read | GatherBundles:
        """What of a failed read to try again as such. Of a gather with other reads the one that failed; the others go
        on."""
        read = tried.read
        if not isinstance(read, GatherBundles) or outcome.failed_read is None:
            return read
        edges = self._planned[read.ticket].edges
        if len(edges) == 2:
            return read
        is_urgent = read.demand or read.ticket in self._promoted
        failed, *others = self._pieces.split(read, edges, outcome.failed_read, demand=is_urgent)
        self._forget(read.ticket)
        for other in others:
            self._submit(_Try(other, tried.tries), now_ns)
        return failed

    def _forget(self, ticket: int) -> None:
        del self._open[ticket]
        self._planned.pop(ticket, None)
        self._promoted.discard(ticket)
        self._unwanted.discard(ticket)

    def _count(self, read: Read | GatherBundles, now_ns: int) -> None:
        if isinstance(read, GatherBundles):
            count = self._planned[read.ticket].asked
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
            checksums=tuple(int(digest, 16) for digest in checksums) if self._config.is_verified else (),
            checksum_block_bytes=block,
            destination=read.destination,
            check=self._check_of(extent, table) if whole else None,
        )

    def _check_of(self, extent: Extent, table: Table) -> Callable[[memoryview], None]:
        codec = get_codec(table.planes[extent.plane].codec)
        bundles = extent.bundle_stop - extent.bundle_start
        return lambda placed: codec.check(extent.plane, placed, table, bundles)

    def _failure(self, tried: _Try, outcome: ReadOutcome) -> str:
        read = tried.read
        if isinstance(read, GatherBundles):
            table = self._manifest.tables[read.table]
            what = f"{len(unpack_ids(read.bundles))} bundles of {table.role} from layer {table.layer} on"
        else:
            extent = self._manifest.extents[read.extent]
            bundles = f"bundles {extent.bundle_start}..{extent.bundle_stop}"
            what = f"extent {read.extent} ({describe_table(self._manifest.tables[extent.table])}, {bundles})"
        tries = "1 try" if tried.tries.made == 1 else f"{tried.tries.made} tries"
        return f"{what} could not be read in {tries}: {outcome.error}{ADVICE if outcome.kind == 'transient' else ''}"
