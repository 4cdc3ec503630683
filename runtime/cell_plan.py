"""Each actor's part of a cell's configuration, from options and ledger. Pure, but for the drive's saved rates."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np

from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.compute.config import ComputeConfig
from tidemill.actors.predictor.config import PredictorConfig, PreloadConfig, PreloadKind, PreloadTable
from tidemill.actors.reader.config import REQUEST_BYTES, ReaderConfig
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.draft_plan import DraftPlan
from tidemill.runtime.ledger import Ledger
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.tuning.saved_rates import find_rates
from tidemill.storage.arena_plan import streamed_ranges
from tidemill.storage.devices.emulated.spec import slots_of, table_of
from tidemill.storage.devices.gatherer import GATHER_DEPTH
from tidemill.storage.draft_model import DraftModel
from tidemill.storage.manifest import Manifest, Role

CHUNK = 256  # positions per prefill chunk. Part of no bits (kernels are batch-invariant), but of activation memory
READ_RETRIES = 4  # of what may pass, after 1, 5, 25 and 125 ms
INPUT_OF: Mapping[Role, Literal["qkv", "o", "gate_up", "down"]] = MappingProxyType(
    {"attn_qkv": "qkv", "attn_out": "o", "mlp_in": "gate_up", "mlp_down": "down"}
)
GATHER_BYTES_MAX = 512 << 10  # of one read of single bundles: above, larger reads are no faster (benchmarks/results.md)
PRELOAD_IN_FLIGHT_BYTES = 2 << 20  # what a demand that comes just then has to wait for: some 2 ms
TICKETS_PER_DEPTH = 4  # reads queued behind each one under way, so that the device never waits for a message


def plan_cell(
    manifest: Manifest,
    options: EngineOptions,
    plan: DraftPlan,
    popularity: Mapping[int, bytes],
    draft_model: DraftModel | None,
) -> CellSpec:
    """`manifest`: of the cell. A resident model has nothing to predict."""
    ledger = plan.ledger
    tickets = options.io_depth * TICKETS_PER_DEPTH
    head = manifest.head_extents
    reader = plan_reader(options, ledger, tickets)
    return CellSpec(
        model_directory=str(options.model),
        load_mode=options.load_mode,
        io_depth=options.io_depth,
        device=options.device,
        predictor=PredictorConfig(
            layer_ranges=streamed_ranges(manifest),
            head_range=(head.start, head.stop),
            preload=plan_preload(manifest, options.preload, options.preload_share),
        ),
        arena=ArenaConfig(
            plan=ledger.arena,
            tickets=tickets,
            residency=ResidencyChoice(options.residency, quotas=options.quotas),
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
            draft=plan.spec,
            draft_model=draft_model,
        ),
    )


def plan_reader(options: EngineOptions, ledger: Ledger, tickets: int) -> ReaderConfig:
    """What requests take of the drive is what an emulated one says, or what `tidemill tune` measured: of gathers on a
    model with single bundles, else of large reads on any; where nothing was measured, a fast drive's."""
    config = ReaderConfig(
        tickets=tickets,
        retries=READ_RETRIES,
        is_verified=options.verify_reads,
        bundles=ledger.arena.bundles,
        read_bytes_max=GATHER_BYTES_MAX,
    )
    if options.device is not None and options.device.is_limited:
        depth = min(GATHER_DEPTH, slots_of(options.device))
        table = table_of(options.device)
        seconds = [table.seconds(size, depth) / depth for size in REQUEST_BYTES]
        return msgspec.structs.replace(config, request_bytes=REQUEST_BYTES, request_s=tuple(seconds))
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
