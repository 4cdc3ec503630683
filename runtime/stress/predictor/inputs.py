"""Inputs of layers, token after token: which channels each is computed with, and what it was. Drawn or recorded.

Drawn ones: log magnitudes of channel c of layer l in token t are a popularity of (l, c), and noise that layers near to
one another share where they read the residual stream; the largest are selected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.actors.predictor.config import PreloadTable
from tidemill.actors.predictor.policies.policy import INPUT_KINDS, InputKind
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.storage.errors import FormatError
from tidemill.storage.trace.header import TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]
GROUPED: tuple[InputKind, ...] = ("qkv", "gate_up")  # those that read the residual stream
NEXT_LAYER = 0.8  # correlation of their noise from one layer to the next
POPULAR = 0.7  # spread of popularity, beside noise of 1


class Input(NamedTuple):
    """`values` None: only what was selected is known."""

    table: int
    layer: int
    active: U32  # channels, rising
    values: F32 | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """`tables` in compute order, with the inputs of each token in the order in which compute meets them."""

    tables: tuple[PreloadTable, ...]
    layer_count: int
    tokens: Sequence[Sequence[Input]]
    told: str


def make_inputs(job: PredictorJob) -> Inputs:
    """Raises FormatError, ValueError."""
    if job.trace is None:
        return _draw(job)
    return _record(job, Path(job.trace), None if job.activations is None else Path(job.activations))


def tables_of(channels: Mapping[InputKind, int], layer_count: int, group: int) -> tuple[PreloadTable, ...]:
    """As a conversion lays them out."""
    tables: list[PreloadTable] = []
    for layer in range(layer_count):
        for kind, count in channels.items():
            size = group if kind in GROUPED else 1
            if layer % size == 0:
                tables.append(PreloadTable(len(tables), kind, layer, min(size, layer_count - layer), count))
    return tuple(tables)


def _draw(job: PredictorJob) -> Inputs:
    sizes: dict[InputKind, int] = {kind: job.neurons if kind == "down" else job.channels for kind in INPUT_KINDS}
    tables = tables_of(sizes, job.layers, job.group)
    rng = np.random.default_rng(job.seed)
    popular = {
        (kind, layer): POPULAR * rng.standard_normal(sizes[kind]) for kind in sizes for layer in range(job.layers)
    }
    shared = {kind: POPULAR * rng.standard_normal(sizes[kind]) for kind in GROUPED}
    tokens: list[list[Input]] = []
    for _ in range(job.tokens):
        noise = {kind: rng.standard_normal(sizes[kind]) for kind in sizes}
        inputs: list[Input] = []
        for layer in range(job.layers):
            for kind, count in sizes.items():
                fresh = rng.standard_normal(count)
                if kind in GROUPED:
                    noise[kind] = NEXT_LAYER * noise[kind] + (1 - NEXT_LAYER**2) ** 0.5 * fresh
                    logs = noise[kind] + shared[kind]
                else:
                    logs = fresh + popular[kind, layer]
                signs = np.where(rng.random(count) < 0.5, -1.0, 1.0)
                values = (signs * np.exp(logs)).astype(np.float32)
                inputs.append(Input(_table(tables, kind, layer), layer, _largest(values, job.active), values))
        tokens.append(inputs)
    told = f"drawn: {job.layers} layers of {job.channels} channels and {job.neurons} neurons, {job.active:.0%} active"
    return Inputs(tables, job.layers, tokens, told)


def _largest(values: F32, share: float) -> U32:
    cut = values.size - max(1, round(share * values.size))
    return np.sort(np.argpartition(np.abs(values), cut)[cut:]).astype(np.uint32)


def _record(job: PredictorJob, trace: Path, activations: Path | None) -> Inputs:
    values = {} if activations is None else read_activations(activations)
    tokens: list[list[Input]] = []
    at = -1
    with TraceReader(trace) as reader:
        header = reader.header
        sizes = _sizes(header, trace)
        tables = tables_of(sizes, header.layer_count, job.group)
        for row in reader:
            if row.position < header.prompt_positions:
                continue
            if row.position != at:
                at = row.position
                tokens.append([])
            kind: InputKind = "down" if row.input == "neuron" else row.input
            known = values.get((len(tokens) - 1, row.layer, kind))
            tokens[-1].append(Input(_table(tables, kind, row.layer), row.layer, row.selected.copy(), known))
    if len(tokens) < 2:
        raise ValueError(f"{trace} has {len(tokens)} decoded positions; predicting needs two at least")
    _check_values(values, tables, activations)
    told = f"{len(tokens)} tokens of a trace of {header.model}, {header.policy} at {header.sparsity:.0%}"
    return Inputs(tables, header.layer_count, tokens, told + (", with activations" if values else ""))


def _sizes(header: TraceHeader, trace: Path) -> dict[InputKind, int]:
    """Whole neurons count as `down`. In the order in which a layer computes."""
    found: dict[InputKind, int] = {kind: header.channels[kind] for kind in INPUT_KINDS if kind in header.channels}
    if "neuron" in header.channels:
        found["down"] = header.channels["neuron"]
    if not found:
        raise ValueError(f"{trace} names no input that is predicted; record one: tidemill trace")
    return found


def read_activations(path: Path) -> Mapping[tuple[int, int, str], F32]:
    """By token, layer and input. The file: Arrow IPC with rows (position u32, layer u16, input dictionary<string>,
    values list<f16>), positions as in the trace, its prompt's first if they are there. Raises FormatError."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all().combine_chunks()
        columns = [table.column(name) for name in ("position", "layer", "input", "values")]
        positions, layers = columns[0].to_numpy(), columns[1].to_numpy()
        inputs = columns[2].to_pylist()
        rows = columns[3].combine_chunks()
        offsets, flat = rows.offsets.to_numpy(), rows.values.to_numpy()
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        raise FormatError(f"{path} is no Arrow file of activations (position, layer, input, values): {error}") from None
    numbers = {position: number for number, position in enumerate(np.unique(positions).tolist())}
    return {
        (numbers[position], layer, kind): flat[start:stop].astype(np.float32)
        for position, layer, kind, start, stop in zip(
            positions.tolist(), layers.tolist(), inputs, offsets.tolist(), offsets[1:].tolist(), strict=False
        )
    }


def _check_values(
    values: Mapping[tuple[int, int, str], F32], tables: Sequence[PreloadTable], activations: Path | None
) -> None:
    counts = {table.kind: table.channels for table in tables}
    wrong = [key for key, found in values.items() if key[2] in counts and found.size != counts[key[2]]]
    if wrong:
        token, layer, kind = wrong[0]
        raise FormatError(
            f"{activations}: {values[wrong[0]].size} values of {kind} in layer {layer}, token {token}, which has "
            "another number of channels in the trace; record both of one run"
        )


def _table(tables: Sequence[PreloadTable], kind: InputKind, layer: int) -> int:
    return next(t.table for t in tables if t.kind == kind and t.layer <= layer < t.layer + t.layers)
