"""One read job: the reader actor with its own device, and an arena of its own, in this process."""

import errno
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.actors.counters import Counter, Counters, new_counters
from tidemill.actors.reader.actor import ReaderActor
from tidemill.actors.reader.config import ReaderConfig
from tidemill.runtime.assembly import find_gather_code
from tidemill.runtime.cell_plan import GATHER_BYTES_MAX, READ_RETRIES
from tidemill.runtime.region import Region
from tidemill.runtime.stress.job import JobSurroundings
from tidemill.runtime.stress.read_report import ReadCounts, depth_levels, latency_tables, read_report
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.reader.loop import Limits, Places, ReaderLoop
from tidemill.runtime.stress.reader.observed_device import ObservedDevice
from tidemill.runtime.stress.reader.patterns import BlockPattern, ExtentPattern, Pattern, ScatterPattern, TracePattern
from tidemill.runtime.stress.reader.targets import Target, open_target
from tidemill.runtime.stress.reader.traced_rows import read_rows
from tidemill.runtime.stress.report import JobReport, ReaderFigures
from tidemill.runtime.stress.usage import ProcessUsage, plain_report
from tidemill.storage.arena_plan import RING_BYTES_MAX, align_up
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable, bundle_tables, slot_bytes
from tidemill.storage.devices.alarm import TimerAlarm
from tidemill.storage.devices.device import FlashDevice
from tidemill.storage.devices.emulated.device import Tally, emulate
from tidemill.storage.devices.thread_pool import ThreadPoolDevice
from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest, Table


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where orders go: `places` of `place_bytes` in turn, or a pool of slots for each size of bundle."""

    tickets: int
    places: int
    place_bytes: int
    arena_bytes: int
    bundles: BundlePlan


@dataclass(frozen=True, slots=True)
class _Done:
    """What a run leaves for its report."""

    loop: ReaderLoop
    device: ObservedDevice
    counters: Counters
    layout: _Layout
    pattern: Pattern
    used: ProcessUsage


def run_reader(
    job: ReaderJob, surroundings: JobSurroundings, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> JobReport:
    """Raises StorageError, ValueError; StoppedError when it is given up before it begins."""
    target = open_target(job, surroundings.prepare)
    pattern = make_pattern(job, target)
    layout = _lay_out(job, target.manifest, pattern)
    region = Region.create("stress", layout.arena_bytes, Path(tempfile.gettempdir()))
    with closing(region):
        region.advise_huge_pages()
        counters = new_counters()
        opened = ObservedDevice(_open_device(job, target, region.array, counters), reads_kept=job.reads_kept)
        with ExitStack() as stack:
            device = stack.enter_context(closing(opened))
            config = ReaderConfig(
                tickets=layout.tickets,
                retries=READ_RETRIES,
                is_verified=target.is_verified,
                bundles=layout.bundles,
                read_bytes_max=GATHER_BYTES_MAX,
            )
            alarm = stack.enter_context(closing(TimerAlarm()))
            loop = ReaderLoop(
                ReaderActor(config, target.manifest, device, counters, alarm),
                device,
                pattern,
                limits=Limits(runtime_s=job.runtime_s, passes=not job.time_based, rate=job.rate),
                counters=counters,
                clock_ns=clock_ns,
            )
            surroundings.await_go()
            before = ProcessUsage.now()
            loop.run(Places(layout.tickets, layout.places, layout.place_bytes), surroundings)
            used = ProcessUsage.now().since(before)
            return _report(job, target, _Done(loop, device, counters, layout, pattern, used))


def make_pattern(job: ReaderJob, target: Target) -> Pattern:
    """Raises ValueError, FormatError."""
    manifest = target.manifest
    tables = bundle_tables(manifest)
    if job.is_gather and not tables:
        raise ValueError(f"{job.files[0]} is in layout {manifest.layout}, whose bundles are not read one by one")
    if job.trace is not None:
        rows = read_rows(Path(job.trace), None if job.sealed else manifest)
        return TracePattern(rows, {number: slot_bytes(table) for number, table in tables.items()})
    if job.scatter:
        return ScatterPattern(tables, job.scatter, job.rw, job.seed)
    if job.block_bytes is not None:
        return BlockPattern(manifest.extents, job.block_bytes, job.rw, job.seed)
    first, stop = manifest.layer_extents.start, manifest.head_extents.stop
    return ExtentPattern(manifest.extents[first:stop], first, job.rw, job.seed)


def _lay_out(job: ReaderJob, manifest: Manifest, pattern: Pattern) -> _Layout:
    """As many places as tickets, or as a decoding ring would have, if that is more: no read finds its place in a
    cache."""
    tickets = job.iodepth * (1 + job.queue)
    if job.is_gather:
        most = pattern.most if isinstance(pattern, TracePattern) else job.scatter
        bundles = _pools(bundle_tables(manifest), tickets * most)
        return _Layout(tickets, tickets, 0, bundles.arena_bytes, bundles)
    largest = job.block_bytes or max(extent.bytes for extent in manifest.extents)
    place = align_up(largest)
    places = max(tickets, RING_BYTES_MAX // place)
    return _Layout(tickets, places, place, places * place, BundlePlan())


def _pools(tables: Mapping[int, Table], slots: int) -> BundlePlan:
    sizes = sorted({slot_bytes(table) for table in tables.values()})
    pools: list[BundlePool] = []
    offset = 0
    for size in sizes:
        pools.append(BundlePool(offset, size, slots))
        offset += align_up(slots * size)
    cached = (
        CachedTable(number, sizes.index(slot_bytes(table)), table.channel_count, (0,) * table.layers)
        for number, table in tables.items()
    )
    return BundlePlan(tuple(pools), tuple(cached))


def _open_device(job: ReaderJob, target: Target, arena: npt.NDArray[np.uint8], counters: Counters) -> FlashDevice:
    code = find_gather_code(target.manifest) if job.is_gather else None
    device = ThreadPoolDevice(target.paths, arena, depth=job.iodepth, load_mode=job.load_mode, code=code)
    if job.device is None:
        return device
    tallies = counters[Counter.EMULATED_LATE_READS :][: len(Tally)]
    return emulate(device, job.device, target.paths, arena, depth=job.iodepth, tallies=tallies)


def _report(job: ReaderJob, target: Target, done: "_Done") -> JobReport:
    loop, counters = done.loop, done.counters
    read = read_report(
        ReadCounts(
            io_bytes=int(counters[Counter.FLASH_BYTES]),
            ios=int(counters[Counter.FLASH_READS]),
            elapsed_ns=loop.elapsed_ns,
            slat=loop.slat,
            clat=loop.clat,
            lat=loop.lat,
            samples=loop.series.samples,
        )
    )
    ns, us, ms = latency_tables(read.lat_ns)
    error = errno.EIO if loop.failures else 0
    plain = plain_report(job.name, job.fio_options, loop.elapsed_ns, done.used, error=error)
    return msgspec.structs.replace(
        plain,
        read=read,
        iodepth_level=depth_levels(loop.depths),
        latency_ns=ns,
        latency_us=us,
        latency_ms=ms,
        reader=_figures(job, target, done),
        rate_log=tuple(loop.series.samples),
        made=tuple(done.device.made),
    )


def _figures(job: ReaderJob, target: Target, done: "_Done") -> ReaderFigures:
    loop, counters = done.loop, done.counters
    return ReaderFigures(
        load_mode_asked=job.load_mode,
        load_mode=done.device.load_mode,
        alignment_bytes=ALIGNMENT_BYTES,
        depth=job.iodepth,
        depth_mean=done.device.active_ns / max(loop.elapsed_ns, 1),
        tickets=done.layout.tickets,
        arena_bytes=done.layout.arena_bytes,
        verified=target.is_verified,
        pattern=done.pattern.told,
        useful_bytes=loop.useful_bytes + int(counters[Counter.GATHERED_BYTES]),
        orders=loop.orders,
        retries=int(counters[Counter.FLASH_RETRIES]),
        failed=len(loop.failures),
        first_failure=next(iter(loop.failures), ""),
        device="" if job.device is None else job.device.text,
        late_reads=int(counters[Counter.EMULATED_LATE_READS]),
        late_ns=int(counters[Counter.EMULATED_LATE_NS]),
        faults=int(counters[Counter.EMULATED_FAULTS]),
    )
