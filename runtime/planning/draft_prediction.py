"""The model of time of a pass that drafts. Pure.

A pass drafts n tokens, then checks them with the one before in one lap over n + 1 positions:

    n · T_draft + max(T_check(n + 1), T_io - T_ahead) + TOKEN_OVERHEAD_S

    T_draft  bytes of the drafting weights / their kernels' rate, attention, layers · LAYER_OVERHEAD_S, and the
             embedding's row where that has to be read
    T_check  operations of n + 1 positions / rate of that batch, or their weights' bytes / the kernels' rate if that is
             more; attention of each, layers, and what reads take of cores
    T_ahead  what the drive reads meanwhile: as much as the ring holds, and no more than drafting lasts

With a chance of a that a drafted token is right, such a pass brings (1 - a^(n + 1)) / (1 - a) tokens (Leviathan,
Kalman, Matias, ICML 2023, equation 1). n is the one with most tokens per second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.actors.compute.drafting.spec import MOST_DRAFTED, DraftKind
from tidemill.runtime.planning.constants import COARSE, LAYER_OVERHEAD_S, READ_CORE_S, TOKEN_OVERHEAD_S
from tidemill.runtime.planning.interpolation import flop_rate, request_seconds, weight_rate
from tidemill.runtime.planning.prediction import RunShape, io_seconds, scaled_rates
from tidemill.runtime.planning.rates import KernelRates, MachineRates
from tidemill.runtime.planning.workload import Work, Workload, element_bytes
from tidemill.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftWork:
    """What drafts a token, all of it in memory, and the chance that the token is right."""

    kind: DraftKind
    acceptance: float
    weight_bytes: Mapping[str, int] = field(default_factory=dict)  # of one lap, by kind of kernel
    layer_count: int = 0
    kv_bytes_per_position: int = 0
    row_bytes: int = 0  # of the embedding row, when it has to be read


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPrediction:
    """Times in seconds. `gain_ratio`: tokens per second over those of the same ceiling without drafts."""

    kind: DraftKind
    acceptance: float
    length: int
    tokens_per_pass: float
    draft_s_per_token: float
    check_s: float
    io_s: float
    ahead_s: float
    pass_s: float
    streamed_bytes_per_token: float
    decode_tokens_per_s: float
    gain_ratio: float


def work_of_planes(manifest: Manifest, work: Workload, acceptance: float) -> DraftWork:
    """Plane 0 of layers and head; tables of one plane whole."""
    sizes: dict[str, int] = {}
    for i in (*manifest.layer_extents, *manifest.head_extents):
        extent, table = manifest.extents[i], manifest.tables[manifest.extents[i].table]
        if extent.plane == 0:
            kind = table.kind + (COARSE if len(table.planes) > 1 else "")
            sizes[kind] = sizes.get(kind, 0) + extent.bytes
    return DraftWork(
        kind="planes",
        acceptance=acceptance,
        weight_bytes=sizes,
        layer_count=work.layer_count,
        kv_bytes_per_position=work.kv_bytes_per_position,
        row_bytes=0 if manifest.decoder.tied_head else work.row_bytes,  # a tied head gives coarse rows too
    )


def work_of_model(work: Workload, acceptance: float) -> DraftWork:
    """Of another model, resident, by its own workload."""
    sizes = dict(work.layers.weight_bytes)
    for kind, size in work.head.weight_bytes.items():
        sizes[kind] = sizes.get(kind, 0) + size
    return DraftWork(
        kind="model",
        acceptance=acceptance,
        weight_bytes=sizes,
        layer_count=work.layer_count,
        kv_bytes_per_position=work.kv_bytes_per_position,
    )


def expected_tokens(acceptance: float, length: int) -> float:
    """That a pass of `length` drafted tokens brings."""
    return sum(acceptance**i for i in range(length + 1))


def predict_draft(
    work: Workload,
    draft: DraftWork,
    rates: MachineRates,
    shape: RunShape,
    *,
    plain_s: float,
    lengths: Sequence[int] = range(1, MOST_DRAFTED + 1),
) -> DraftPrediction:
    """With drafts of the best of `lengths`. `plain_s`: what a token takes without drafts at the same ceiling."""
    rates = scaled_rates(rates, shape.threads)
    predictions = [_predict(work, draft, rates, shape, plain_s, length) for length in lengths]
    return max(predictions, key=lambda prediction: prediction.decode_tokens_per_s)


def _predict(
    work: Workload, draft: DraftWork, rates: MachineRates, shape: RunShape, plain_s: float, length: int
) -> DraftPrediction:
    tokens = expected_tokens(draft.acceptance, length)
    draft_s, check_s = _draft_seconds(draft, rates, shape), _check_seconds(work, rates, shape, length + 1)
    streamed = work.layers.streamed_bytes + work.head.streamed_bytes
    io_s = io_seconds(work, rates, shape)
    ring_s = io_s * min(1.0, work.ring_bytes / streamed) if streamed else 0.0
    ahead_s = min(ring_s, length * draft_s + TOKEN_OVERHEAD_S)
    pass_s = length * draft_s + max(check_s, io_s - ahead_s) + TOKEN_OVERHEAD_S
    return DraftPrediction(
        kind=draft.kind,
        acceptance=draft.acceptance,
        length=length,
        tokens_per_pass=tokens,
        draft_s_per_token=draft_s,
        check_s=check_s,
        io_s=io_s,
        ahead_s=ahead_s,
        pass_s=pass_s,
        streamed_bytes_per_token=streamed / tokens,
        decode_tokens_per_s=tokens / pass_s,
        gain_ratio=tokens * plain_s / pass_s,
    )


def _draft_seconds(draft: DraftWork, rates: MachineRates, shape: RunShape) -> float:
    weights_s = sum(size / coarse_rate(rates.kernels, kind) for kind, size in draft.weight_bytes.items())
    attention_s = shape.position * draft.kv_bytes_per_position / rates.dram_bytes_per_s
    row_s = request_seconds(rates.flash, [draft.row_bytes], 1) if draft.row_bytes else 0.0
    return weights_s + attention_s + row_s + draft.layer_count * LAYER_OVERHEAD_S


def coarse_rate(kernels: KernelRates, kind: str) -> float:
    """Bytes of plane 0 per second; where that wasn't measured, the rate of both planes together."""
    return kernels.bytes_per_s.get(kind, weight_rate(kernels, kind.removesuffix(COARSE)))


def _check_seconds(work: Workload, rates: MachineRates, shape: RunShape, positions: int) -> float:
    parts = work.layers, work.head
    flop_s = sum(_part_seconds(part, rates.kernels, positions) for part in parts)
    attention_s = positions * shape.position * work.kv_bytes_per_position / rates.dram_bytes_per_s
    reads_s = sum(len(part.read_sizes) for part in parts) * READ_CORE_S / shape.threads
    return flop_s + attention_s + reads_s + work.layer_count * LAYER_OVERHEAD_S


def _part_seconds(part: Work, kernels: KernelRates, positions: int) -> float:
    """Few positions take as long as one does: until then memory is the limit, which batches are not measured on."""
    rate = flop_rate(kernels, part.kind, element_bytes(part), positions)
    memory_s = sum(size / weight_rate(kernels, kind) for kind, size in part.weight_bytes.items())
    return max(memory_s, 2 * part.weights * positions / rate)
