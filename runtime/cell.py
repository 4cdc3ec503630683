"""Opens one cell: kernels compiled, processes started and measured, ledger divided, actors given their parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np

from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.compute.activations import activation_bytes
from tidemill.actors.compute.bundle_buffers import bundle_buffer_bytes
from tidemill.actors.compute.config import ComputeConfig
from tidemill.actors.compute.evaluation_bytes import evaluation_bytes
from tidemill.actors.compute.kv_cache import kv_cache_bytes
from tidemill.actors.counters import Counter
from tidemill.actors.predictor.config import PredictorConfig, PreloadConfig, PreloadKind, PreloadTable
from tidemill.actors.reader.config import REQUEST_BYTES, ReaderConfig
from tidemill.actors.wiring import LINKS
from tidemill.runtime.calibration.record import CALIBRATION_FILE
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.environment import use_kernel_settings
from tidemill.runtime.events import StatusText
from tidemill.runtime.kernel_cache import ensure_kernels
from tidemill.runtime.lab import Lab
from tidemill.runtime.launchers.launcher import Launcher
from tidemill.runtime.ledger import Demands, Ledger, check_available, plan_ledger
from tidemill.runtime.memory import PeakSampler, available_bytes, process_memory
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.start_times import StartClock
from tidemill.runtime.tuning.saved_processes import remember_processes
from tidemill.runtime.tuning.saved_rates import find_rates
from tidemill.storage.arena_plan import streamed_ranges
from tidemill.storage.bundle_plan import PRELOAD_SHARE, READ_AHEAD_SHARE
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.huge_pages import round_up
from tidemill.storage.manifest import Extent, Manifest, Role
from tidemill.storage.manifest_file import load_manifest

CHUNK = 256  # positions per prefill chunk. Part of no bits (kernels are batch-invariant), but of activation memory
READ_RETRIES = 2
INPUT_OF: Mapping[Role, Literal["qkv", "o", "gate_up", "down"]] = MappingProxyType(
    {"attn_qkv": "qkv", "attn_out": "o", "mlp_in": "gate_up", "mlp_down": "down"}
)
RESIDENCY_BYTES = 32  # of each single bundle: its residence and use (17 to 21), its slot and the read into it
GATHER_BYTES_MAX = 512 << 10  # of one read of single bundles: above, larger reads are no faster (benchmarks/results.md)
PRELOAD_IN_FLIGHT_BYTES = 2 << 20  # what a demand that comes just then has to wait for: some 2 ms
UNMEASURED_PROCESS_BYTES = 120 << 20
TICKETS_PER_DEPTH = 4  # reads queued behind each one under way, so that the device never waits for a message


@dataclass(frozen=True, slots=True)
class Cell:
    """The running parts. Closing stops the actors, ends their processes and removes every region."""

    manifest: Manifest
    ledger: Ledger
    spec: CellSpec
    launcher: Launcher
    sampler: PeakSampler
    start_s: Mapping[str, float]  # what opening took, by phase

    def close(self) -> None:
        try:
            self.sampler.stop()
        finally:
            self.launcher.close()


def open_cell(options: EngineOptions, on_event: Callable[[StatusText], None], lab: Lab | None = None) -> Cell:
    """A `lab` needs the in-process launcher.

    Raises StorageError, CeilingTooSmallError, ActorDiedError; leaves nothing behind when it does.
    """
    clock = StartClock()
    manifest = load_manifest(options.model)
    popularity = _read_popularity(manifest, options)
    selects = options.window > 0
    ensure_kernels(options.model, manifest, threads=options.threads, selects=selects, on_event=on_event)
    clock.end("kernel cache")
    launcher = _build_launcher(options, lab)
    try:
        launcher.prepare(str(options.model), threads=options.threads, selects=selects)
        clock.end("processes")
        processes = measure_processes(launcher)
        if options.launcher == "local":
            remember_processes(processes)  # for `tidemill plan`, which starts none
        demands = measure_demands(manifest, options, processes, lab)
        ledger = plan_ledger(manifest, demands, ceiling_bytes=options.ram_bytes, arena_bytes=options.arena_bytes)
        check_available(ledger, demands, available_bytes())
        spec = plan_cell(manifest, options, ledger, popularity)
        sampler = PeakSampler(launcher.process_ids, lambda: kv_bytes_touched(manifest, launcher))
        clock.end("plan")
        launcher.start(spec)
        sampler.start()
        clock.end("actors")
    except BaseException:
        launcher.close()
        raise
    return Cell(manifest, ledger, spec, launcher, sampler, clock.phases)


def _read_popularity(manifest: Manifest, options: EngineOptions) -> Mapping[int, bytes]:
    """Before processes are measured: this one then weighs what reading Arrow files takes."""
    if options.hot_set is None:
        return {}
    from tidemill.runtime.hot_set import read_popularity

    return read_popularity(manifest, options.hot_set)


def measure_processes(launcher: Launcher) -> dict[str, int]:
    """Proportional set size of every process now. Where the system does not tell, a cautious figure per process."""
    sizes = {name: process_memory(process_id) for name, process_id in launcher.process_ids().items()}
    return {name: size.total_bytes if size else UNMEASURED_PROCESS_BYTES for name, size in sizes.items()}


def kv_bytes_touched(manifest: Manifest, launcher: Launcher) -> int:
    """KV cache that positions have been written to so far; an upper bound of what the sampler should leave out."""
    positions = int(launcher.counters[Counter.KV_POSITIONS])
    return 2 * manifest.decoder.layer_count * manifest.decoder.kv_size * 4 * positions


def measure_demands(
    manifest: Manifest, options: EngineOptions, processes: dict[str, int], lab: Lab | None = None
) -> Demands:
    spec = manifest.decoder
    staged = options.load_mode == "staged"
    bounced = [e.stored_bytes for e in manifest.extents if staged or _is_compressed(manifest, e.table)]
    if manifest.layout != "dense":
        bounced = [*(e.stored_bytes for e in _extents_read_whole(manifest) if staged), GATHER_BYTES_MAX]
    return Demands(
        processes=processes,
        kv_bytes=kv_cache_bytes(spec, options.context),
        activation_bytes=activation_bytes(manifest, CHUNK, options.threads, options.context)
        + bundle_buffer_bytes(manifest, CHUNK, options.threads)
        + _evaluation_bytes(manifest, options, lab)
        + _predictor_bytes(options),
        link_bytes=sum(link.capacity_bytes for link in LINKS),
        bounce_bytes=options.io_depth * round_up(max(bounced, default=0)),
        preload_share=READ_AHEAD_SHARE if options.preload == "none" else PRELOAD_SHARE,
        residency_bytes=RESIDENCY_BYTES * sum(t.bundle_count for t in manifest.tables if t.is_self_contained),
    )


def _evaluation_bytes(manifest: Manifest, options: EngineOptions, lab: Lab | None) -> int:
    """What evaluating text takes beside decoding: buffers, and the calibration's arrays in the worst case."""
    if not options.window:
        return 0
    calibration = options.model / CALIBRATION_FILE
    arrays = sum(s.policy == "neuron" for s in options.selections) * (
        calibration.stat().st_size if calibration.is_file() else 0
    )
    policies = len(options.selections) + (len(lab.policies) if lab else 0)
    return evaluation_bytes(manifest, policies, options.window, CHUNK) + arrays + (lab.bytes if lab else 0)


def _predictor_bytes(options: EngineOptions) -> int:
    """Of what decoding selects, or looks ahead, by: most of a calibration are its predictors."""
    calibration = options.model / CALIBRATION_FILE
    predicts = options.selection is not None and (
        options.selection.policy == "neuron" or options.preload == "look-ahead"
    )
    return calibration.stat().st_size if predicts and calibration.is_file() else 0


def plan_cell(manifest: Manifest, options: EngineOptions, ledger: Ledger, popularity: Mapping[int, bytes]) -> CellSpec:
    """Each actor's part of the configuration. A resident model has nothing to predict."""
    tickets = options.io_depth * TICKETS_PER_DEPTH
    head = manifest.head_extents
    reader = plan_reader(options, ledger, tickets)
    return CellSpec(
        model_directory=str(options.model),
        load_mode=options.load_mode,
        io_depth=options.io_depth,
        predictor=PredictorConfig(
            layer_ranges=streamed_ranges(manifest),
            head_range=(head.start, head.stop),
            preload=plan_preload(manifest, options.preload, options.preload_share),
        ),
        arena=ArenaConfig(
            plan=ledger.arena,
            tickets=tickets,
            residency=ResidencyChoice(options.residency),
            popularity=popularity,
            gate=None if options.preload == "none" else plan_gate(manifest, reader),
        ),
        reader=reader,
        compute=ComputeConfig(
            plan=ledger.arena,
            context=options.context,
            chunk=CHUNK,
            threads=options.threads,
            selections=options.selections,
            window=options.window,
            traces=options.traces,
            decode_selection=options.selection,
        ),
    )


def plan_reader(options: EngineOptions, ledger: Ledger, tickets: int) -> ReaderConfig:
    """What requests take of the drive is what `tidemill tune` measured: of gathers on a model with single bundles, else
    of large reads on any; where nothing was measured, a fast drive's."""
    config = ReaderConfig(
        tickets=tickets, retries=READ_RETRIES, bundles=ledger.arena.bundles, read_bytes_max=GATHER_BYTES_MAX
    )
    rates = find_rates(options.model).rates if ledger.arena.bundles.tables else None
    if rates is None:
        return config
    if rates.gathers is not None:
        seconds = [rates.gathers.read_s + size * rates.gathers.byte_s for size in REQUEST_BYTES]
        return msgspec.structs.replace(config, request_bytes=REQUEST_BYTES, request_s=tuple(seconds))
    depth = min({point.depth for point in rates.flash.points}, key=lambda depth: abs(depth - options.io_depth))
    points = sorted((p.request_bytes, p.bytes_per_s) for p in rates.flash.points if p.depth == depth)
    return msgspec.structs.replace(
        config,
        request_bytes=tuple(size for size, _ in points),
        request_s=tuple(size / rate for size, rate in points),
    )


def plan_gate(manifest: Manifest, reader: ReaderConfig) -> GateRules | None:
    """What preloads are weighed by: the drive's rates at the sizes of a demanded and of a preloaded read. None where
    there is nothing to preload."""
    tables = [table for table in manifest.tables if table.is_self_contained]
    if not tables:
        return None
    largest = max(tables, key=lambda table: table.bundle_count * table.planes[0].bundle_bytes)
    demanded = largest.planes[0].bundle_bytes
    preloaded = demanded * largest.layers
    seconds = np.interp([demanded, preloaded], reader.request_bytes, reader.request_s)
    return GateRules(
        in_flight_bytes=PRELOAD_IN_FLIGHT_BYTES,
        demand_rate=demanded / float(seconds[0]),
        preload_rate=preloaded / float(seconds[1]),
    )


def plan_preload(manifest: Manifest, kind: PreloadKind, share: float) -> PreloadConfig:
    """Which tables there are to preload, in compute order; whole ones are read ahead whatever `kind`."""
    tables = [
        PreloadTable(i, INPUT_OF.get(table.role, "down"), table.layer, table.layers, table.channel_count)
        for i, table in enumerate(manifest.tables)
        if table.is_self_contained
    ]
    return PreloadConfig(tables=tuple(tables), layer_count=manifest.decoder.layer_count, kind=kind, share=share)


def _extents_read_whole(manifest: Manifest) -> Sequence[Extent]:
    return [extent for extent in manifest.extents if not manifest.tables[extent.table].is_self_contained]


def _is_compressed(manifest: Manifest, table: int) -> bool:
    return not get_codec(manifest.tables[table].planes[0].codec).is_identity


def _build_launcher(options: EngineOptions, lab: Lab | None) -> Launcher:
    if options.launcher == "in-process":
        use_kernel_settings(options.threads)  # before this process imports numba
        from tidemill.runtime.launchers.in_process import InProcessLauncher

        return InProcessLauncher(lab=lab)
    if lab is not None:
        raise ValueError(f"launcher {options.launcher} runs compute in another process; use in-process")
    from tidemill.runtime.launchers.local import LocalLauncher

    return LocalLauncher()
