"""A recorded trace as orders of single bundles: of the model that it is of, or of a scratch file laid out like it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.runtime.hot_set import trace_tables
from tidemill.storage.manifest import Manifest
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader

I64 = npt.NDArray[np.int64]
Rows = Sequence[tuple[int, I64]]


def read_rows(trace: Path, manifest: Manifest | None) -> Rows:
    """(table, bundles) of each decoded row that selected any; without a manifest as of one table whose bundles are the
    channels of all layers and inputs in the order of `scratch_bundles`. Raises FormatError."""
    rows: list[tuple[int, I64]] = []
    with TraceReader(trace) as reader:
        header = reader.header
        tables = {} if manifest is None else trace_tables(manifest, header, trace)
        firsts = _firsts(header)
        for row in reader:
            if row.position < header.prompt_positions or not row.selected.size:
                continue
            channels = row.selected.astype(np.int64)
            if manifest is None:
                rows.append((0, channels + firsts[row.layer, row.input]))
            elif (row.layer, row.input) in tables:
                table = tables[row.layer, row.input]
                rows.append((table, manifest.tables[table].bundles_of(channels, row.layer)))
    if not rows:
        raise ValueError(f"{trace} holds no selection of a decoded position; record one: tidemill trace")
    return rows


def scratch_bundles(trace: Path) -> int:
    """How many bundles a scratch file for this trace has."""
    with TraceReader(trace) as reader:
        return reader.header.layer_count * sum(reader.header.channels.values())


def _firsts(header: TraceHeader) -> Mapping[tuple[int, SelectionInput], int]:
    firsts: dict[tuple[int, SelectionInput], int] = {}
    at = 0
    for layer in range(header.layer_count):
        for name, count in header.channels.items():
            firsts[layer, name] = at
            at += count
    return firsts
