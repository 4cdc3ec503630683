"""Traces of the selections of one input, to make neuron orders from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_writer import TraceWriter


def write_trace(
    path: Path,
    name: SelectionInput,
    selections: Mapping[int, Sequence[Sequence[int]]],
    channels: int,
    layers: int,
    neuron_order: str = "",
) -> None:
    """`selections` are by layer, one of each position."""
    header = TraceHeader(
        model="m",
        fingerprint="f",
        policy="topk",
        sparsity=0.5,
        channels={name: channels},
        layer_count=layers,
        prompt_positions=0,
        neuron_order=neuron_order,
    )
    with TraceWriter(path, header) as trace:
        for position in range(max(map(len, selections.values()), default=0)):
            for layer, rows in sorted(selections.items()):
                trace.add(position, layer, name, np.array(rows[position], np.uint32))
