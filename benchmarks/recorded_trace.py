"""Recorded selections and, beside them, recorded activations, as arrays.

The activations are an Arrow IPC file of one row per (position, layer, input): position u32, layer u16, input
dictionary<string> (qkv|o|gate_up|down|gate|up), values list<f16>: the input itself before it was masked; `gate` and
`up` are those products before the activation, and may be missing.
Positions and layers are those of the trace, in order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.actors.predictor.policies.policy import F32, INPUT_KINDS, U32, InputKind
from tidemill.storage.trace.trace_reader import TraceReader

F16 = npt.NDArray[np.float16]


@dataclass(frozen=True)
class RecordedTrace:
    """`selected[kind]`: the channels of row position · layers + layer; position 0 is the first that was recorded."""

    model: str
    policy: str
    sparsity: float
    channels: dict[InputKind, int]
    layer_count: int
    position_count: int
    selected: dict[InputKind, list[U32]]

    def active(self, position: int, layer: int, kind: InputKind) -> U32:
        return self.selected[kind][position * self.layer_count + layer]


@dataclass(frozen=True)
class RecordedActivations:
    """`values[kind]`: [positions, layers, channels]"""

    values: dict[str, F16]

    def of(self, position: int, layer: int, kind: str) -> F32 | None:
        return self.values[kind][position, layer].astype(np.float32) if kind in self.values else None


def load_recorded_trace(path: Path) -> RecordedTrace:
    """Raises FormatError or VersionError for a file of another form, ValueError where a row is missing."""
    rows: dict[InputKind, list[U32]] = {kind: [] for kind in INPUT_KINDS}
    with TraceReader(path) as reader:
        said = reader.header
        missing = [kind for kind in INPUT_KINDS if kind not in said.channels]
        if missing:
            raise ValueError(f"{path}: no selections of {', '.join(missing)}; record a trace of --select topk")
        for row in reader:
            if row.input != "neuron":
                rows[row.input].append(row.selected.copy())
    counts = {kind: len(found) for kind, found in rows.items()}
    if len(set(counts.values())) > 1 or counts["qkv"] % said.layer_count:
        raise ValueError(f"{path}: {counts} rows, expected one per input, layer and position; record it again")
    return RecordedTrace(
        model=said.model,
        policy=said.policy,
        sparsity=said.sparsity,
        channels={kind: said.channels[kind] for kind in INPUT_KINDS},
        layer_count=said.layer_count,
        position_count=counts["qkv"] // said.layer_count,
        selected=rows,
    )


def load_activations(path: Path, layer_count: int) -> RecordedActivations:
    """Raises ValueError where a (position, layer) is missing."""
    table, values = _read(path), {}
    for kind in sorted(set(table.column("input").unique().to_pylist())):
        rows = _rows_of(table, kind, layer_count, path)
        flat = rows.column("values").combine_chunks().flatten().to_numpy()
        values[kind] = flat.reshape(len(rows) // layer_count, layer_count, -1)
    return RecordedActivations(values)


def _read(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _rows_of(table: pa.Table, kind: str, layer_count: int, path: Path) -> pa.Table:
    """The rows of one input: every layer once for each position, in order."""
    names = table.column("input").combine_chunks()
    rows = table.filter(pa.array(np.array(names.cast(pa.string()).to_pylist()) == kind))
    layers = rows.column("layer").to_numpy()
    if len(rows) % layer_count or not np.array_equal(layers, np.arange(len(rows)) % layer_count):
        raise ValueError(
            f"{path}: input {kind} has {len(rows)} rows, expected layers 0..{layer_count - 1} per position"
        )
    return rows
