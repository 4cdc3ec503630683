"""The model of time: seconds per token and to the first one, from work and rates. Pure.

Reading and computing overlap: the reader works ahead through its ring, across tokens too. So a pass takes

    max(T_io, T_cpu) + what cannot overlap

    T_io   Σ over streamed reads of size / rate(size, depth); at least what the reader itself takes
    T_cpu  Σ over kinds of weight bytes / rate at batch 1 (a chunk of a prompt: operations / rate of its batch)
           + attention over the KV cache + layers · LAYER_OVERHEAD_S + reads · READ_CORE_S / threads

and between two tokens TOKEN_OVERHEAD_S, in which the drive goes on until the ring is full. A resident model has
T_io = 0 and takes its compute time; an arena of next to nothing takes its I/O time. The floor that the prediction is
to be held against is max(streamed bytes / flash rate, active bytes / DRAM rate, operations / rate).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tidemill.runtime.planning.constants import (
    COLD_START_S,
    DECODE_BYTES_PER_S,
    LAYER_OVERHEAD_S,
    LOAD_AHEAD_S,
    READ_CORE_S,
    READER_READ_S,
    TOKEN_OVERHEAD_S,
)
from tidemill.runtime.planning.interpolation import flop_rate, request_seconds, scale_kernels, weight_rate
from tidemill.runtime.planning.rates import KernelRates, MachineRates
from tidemill.runtime.planning.workload import Work, Workload, element_bytes

Bottleneck = Literal["flash", "compute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunShape:
    """How a model is run. `position` is the one whose token is predicted: attention grows with it."""

    prompt_tokens: int
    chunk: int
    position: int
    io_depth: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Times in seconds, sizes in bytes."""

    streamed_bytes_per_token: int
    active_bytes_per_token: int
    reads_per_token: int
    io_s_per_token: float
    compute_s_per_token: float
    decode_s_per_token: float
    decode_tokens_per_s: float
    floor_s_per_token: float
    cold_start_s: float
    load_bytes: int  # locked weights, read once
    prompt_s: float  # from the call to the first token, the load included
    first_token_s: float  # from the command to the first token
    bottleneck: Bottleneck


def predict(work: Workload, rates: MachineRates, shape: RunShape) -> Prediction:
    rates = scaled_rates(rates, shape.threads)
    io_s = io_seconds(work, rates, shape)
    compute_s = (
        kernel_seconds(work, rates, shape)
        + work.layer_count * LAYER_OVERHEAD_S
        + _read_core_seconds((work.layers, work.head), shape)
    )
    decode_s = _token_seconds(work, io_s, compute_s)
    prompt_s = prompt_seconds(work, rates, shape)
    return Prediction(
        streamed_bytes_per_token=work.layers.streamed_bytes + work.head.streamed_bytes + work.row_bytes,
        active_bytes_per_token=work.layers.active_bytes + work.head.active_bytes,
        reads_per_token=len(work.layers.read_sizes) + len(work.head.read_sizes),
        io_s_per_token=io_s,
        compute_s_per_token=compute_s,
        decode_s_per_token=decode_s,
        decode_tokens_per_s=1 / decode_s,
        floor_s_per_token=_floor_seconds(work, rates, shape),
        cold_start_s=COLD_START_S,
        load_bytes=sum(work.load_sizes),
        prompt_s=prompt_s,
        first_token_s=COLD_START_S + prompt_s,
        bottleneck="flash" if io_s > compute_s + TOKEN_OVERHEAD_S else "compute",
    )


def scaled_rates(rates: MachineRates, threads: int) -> MachineRates:
    """With kernels on `threads` threads: no gain is assumed from more than were measured."""
    return msgspec.structs.replace(rates, kernels=scale_kernels(rates.kernels, min(1.0, threads / rates.threads)))


def io_seconds(work: Workload, rates: MachineRates, shape: RunShape) -> float:
    """Of a decoded token: what streams, and its embedding row."""
    return _io_seconds((work.layers, work.head), rates, shape, extra=_row(work))


def kernel_seconds(work: Workload, rates: MachineRates, shape: RunShape) -> float:
    """Of a decoded token: weights and attention."""
    return (
        _weights_seconds(work.layers, rates.kernels)
        + _weights_seconds(work.head, rates.kernels)
        + shape.position * work.kv_bytes_per_position / rates.dram_bytes_per_s
    )


def _token_seconds(work: Workload, io_s: float, compute_s: float) -> float:
    """Between two tokens the drive fills the ring; only what exceeds that is lost to it."""
    streamed = work.layers.streamed_bytes + work.head.streamed_bytes
    ring_s = io_s * min(1.0, work.ring_bytes / streamed) if streamed else 0.0
    return max(io_s + max(0.0, TOKEN_OVERHEAD_S - ring_s), compute_s + TOKEN_OVERHEAD_S)


def _row(work: Workload) -> tuple[int, ...]:
    return (work.row_bytes,) if work.row_bytes else ()


def _io_seconds(parts: Sequence[Work], rates: MachineRates, shape: RunShape, *, extra: Sequence[int]) -> float:
    sizes = [size for part in parts for size in part.read_sizes]
    if not sizes and not extra:
        return 0.0
    drive_s = request_seconds(rates.flash, [*sizes, *extra], shape.io_depth)
    core_s = sum(
        size / DECODE_BYTES_PER_S[codec]
        for part in parts
        for codec, size in part.decoded_bytes.items()
        if codec in DECODE_BYTES_PER_S
    )
    return max(drive_s, core_s / min(shape.io_depth, shape.threads), len(sizes) * READER_READ_S)


def _weights_seconds(work: Work, kernels: KernelRates) -> float:
    return sum(size / weight_rate(kernels, kind) for kind, size in work.weight_bytes.items())


def _read_core_seconds(parts: Sequence[Work], shape: RunShape) -> float:
    return sum(len(part.read_sizes) for part in parts) * READ_CORE_S / shape.threads


def prompt_seconds(work: Workload, rates: MachineRates, shape: RunShape) -> float:
    """From a prompt's arrival to the first token.

    One pass per chunk; the first also waits for what is to be locked, the last runs the head for one position."""
    total = TOKEN_OVERHEAD_S
    for start in range(0, shape.prompt_tokens, shape.chunk):
        batch = min(shape.chunk, shape.prompt_tokens - start)
        parts = (work.layers, work.head) if start + batch == shape.prompt_tokens else (work.layers,)
        extra = (*_row(work), *(work.load_sizes if start == 0 else ()))
        io_s = _io_seconds(parts, rates, shape, extra=extra)
        compute_s = _chunk_seconds(work, rates.kernels, start, batch) + _read_core_seconds(parts, shape)
        if work.head in parts:
            compute_s += _weights_seconds(work.head, rates.kernels)
        ahead_s = LOAD_AHEAD_S if start == 0 else 0.0
        total += max(io_s - ahead_s, compute_s)
    return total


def _chunk_seconds(work: Workload, kernels: KernelRates, start: int, batch: int) -> float:
    pairs = batch * start + batch * (batch + 1) // 2
    flop = 2 * work.layers.weights * batch + pairs * work.attention_flop_per_pair
    rate = flop_rate(kernels, work.layers.kind, element_bytes(work.layers), batch)
    return flop / rate + work.layer_count * LAYER_OVERHEAD_S


def _floor_seconds(work: Workload, rates: MachineRates, shape: RunShape) -> float:
    sizes = [*work.layers.read_sizes, *work.head.read_sizes]
    flash_s = request_seconds(rates.flash, sizes, shape.io_depth) if sizes else 0.0
    dram_s = (work.layers.active_bytes + work.head.active_bytes) / rates.dram_bytes_per_s
    flop_s = 2 * (work.layers.weights + work.head.weights) / max(rates.kernels.flop_per_s.values())
    return max(flash_s, dram_s, flop_s)
