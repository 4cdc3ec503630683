"""What a running cell weighs and has read: the figures behind summary, status line and --json."""

from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.actors.compute.selection.operators import OPERATORS, operator_weights
from tidemill.actors.counters import MILLION, Counter
from tidemill.runtime.cell import Cell
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.devices.device import LOAD_MODES


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """Of single bundles, since the cell was opened: how many steps computed with, how many of those were in DRAM when
    they were asked for (cached, or read ahead), and how many were read ahead in vain."""

    used: int
    hits: int
    preload_hits: int
    wasted: int
    useful_flash_bytes: int  # of what was read for them; the rest lay between
    preload_useful_bytes: int  # read before they were asked for, and used
    preload_wasted_bytes: int  # and not used
    preload_cancelled_bytes: int  # given up before they were read
    preload_tokens: int  # tokens during which preloading was allowed to go on: it is stopped where it loses time
    quota_moved: int  # bundles that one layer may keep more because another keeps fewer
    cached_share: float  # of all bundles' bytes, what the arena may keep
    computed_share: Mapping[str, float] | None  # of each operator's weights, what decoded tokens computed with
    computed_weight_share: float | None  # of all operators' together

    @property
    def demanded(self) -> int:
        return self.used - self.hits - self.preload_hits


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulationReport:
    """Of an emulated drive since the cell was opened. Late requests are those that the drive below brought later than
    the emulated one would have: where there are many, rates are that one's."""

    device: str  # as it was given
    late_requests: int
    late_s: float  # all together
    faults: int  # requests that a fault was injected into


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """Sizes in bytes. `peak_bytes` and `overhead_bytes` are None where the system does not tell them.

    `overhead_bytes` is the peak of everything that is neither weights nor KV cache, over all processes;
    `process_bytes` the present share of each process in it (proportional set size without shared memory).
    """

    ceiling_bytes: int | None
    arena_bytes: int
    locked_bytes: int
    ring_bytes: int
    kv_bytes: int
    overhead_bytes: int | None
    peak_bytes: int | None
    process_bytes: Mapping[str, int]
    load_mode: str
    launcher: str
    draft: str  # as asked for: auto, none, ngram, planes, model
    flash_bytes: int
    flash_reads: int
    flash_busy_ns: int
    flash_retries: int
    flash_rereads: int
    emulation: EmulationReport | None  # of an emulated drive
    streamed_bytes: int
    dropped_bytes: int
    bundles: BundleReport | None  # None for models whose bundles don't come one by one
    ledger: tuple[tuple[str, int], ...]
    start_s: Mapping[str, float]  # what opening took, by phase
    restarts: int = 0  # of cells that lost an actor; everything else is the last one's


def report_of(cell: Cell, *, restarts: int = 0) -> EngineReport:
    plan, counters = cell.ledger.arena, cell.launcher.counters
    peak = cell.sampler.peak()
    return EngineReport(
        ceiling_bytes=cell.ledger.ceiling_bytes,
        arena_bytes=plan.arena_bytes,
        locked_bytes=sum(cell.manifest.extents[i].bytes for i in plan.locked_extents),
        ring_bytes=plan.ring_bytes,
        kv_bytes=dict(cell.ledger.lines)["KV cache"],
        overhead_bytes=peak.overhead_bytes,
        peak_bytes=peak.total_bytes,
        process_bytes=peak.process_bytes,
        load_mode=LOAD_MODES[int(counters[Counter.LOAD_MODE])],
        launcher=cell.launcher.name,
        draft=cell.draft,
        flash_bytes=int(counters[Counter.FLASH_BYTES]),
        flash_reads=int(counters[Counter.FLASH_READS]),
        flash_busy_ns=int(counters[Counter.FLASH_BUSY_NS]),
        flash_retries=int(counters[Counter.FLASH_RETRIES]),
        flash_rereads=int(counters[Counter.FLASH_REREADS]),
        emulation=_emulation_of(cell),
        streamed_bytes=int(counters[Counter.STREAMED_BYTES]),
        dropped_bytes=int(counters[Counter.DROPPED_BYTES]),
        bundles=_bundles_of(cell) if plan.bundles.tables else None,
        ledger=cell.ledger.lines,
        start_s=cell.start_s,
        restarts=restarts,
    )


def _emulation_of(cell: Cell) -> EmulationReport | None:
    device, counters = cell.spec.device, cell.launcher.counters
    if device is None:
        return None
    return EmulationReport(
        device=device.text,
        late_requests=int(counters[Counter.EMULATED_LATE_READS]),
        late_s=int(counters[Counter.EMULATED_LATE_NS]) / 1e9,
        faults=int(counters[Counter.EMULATED_FAULTS]),
    )


def _bundles_of(cell: Cell) -> BundleReport:
    counters = cell.launcher.counters
    computed = _computed_shares(cell)
    return BundleReport(
        used=int(counters[Counter.BUNDLES_USED]),
        hits=int(counters[Counter.BUNDLE_HITS]),
        preload_hits=int(counters[Counter.BUNDLE_PRELOAD_HITS]),
        wasted=int(counters[Counter.BUNDLES_WASTED]),
        useful_flash_bytes=int(counters[Counter.GATHERED_BYTES]),
        preload_useful_bytes=int(counters[Counter.PRELOAD_USEFUL_BYTES]),
        preload_wasted_bytes=int(counters[Counter.PRELOAD_WASTED_BYTES]),
        preload_cancelled_bytes=int(counters[Counter.PRELOAD_CANCELLED_BYTES]),
        preload_tokens=int(counters[Counter.PRELOAD_TOKENS]),
        quota_moved=int(counters[Counter.QUOTA_MOVED]),
        cached_share=cell.ledger.arena.bundles.cached_share,
        computed_share=computed,
        computed_weight_share=None if computed is None else _weigh(computed, cell.manifest.decoder),
    )


def _computed_shares(cell: Cell) -> Mapping[str, float] | None:
    """None before a token was decoded under a selection."""
    counters = cell.launcher.counters
    positions = int(counters[Counter.SELECTED_POSITIONS])
    if not positions:
        return None
    return {
        operator: int(counters[Counter.COMPUTED_Q + i]) / MILLION / positions for i, operator in enumerate(OPERATORS)
    }


def _weigh(shares: Mapping[str, float], spec: DecoderSpec) -> float:
    weights = {
        operator: operator_weights(operator, spec.hidden_size, spec.q_size, spec.kv_size, spec.ff_size)
        for operator in OPERATORS
    }
    return sum(shares[operator] * weights[operator] for operator in OPERATORS) / sum(weights.values())
