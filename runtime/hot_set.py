"""What a hot set is made from: how often a recorded run used each bundle."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tidemill.actors.packing import pack_ids
from tidemill.runtime.selection_recorder import INPUT_OF
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import Manifest
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader


def read_popularity(manifest: Manifest, trace: Path) -> dict[int, bytes]:
    """Of each table of single bundles: uses of its layers' channels, packed u32 [layers, channels]. Zeros for inputs
    that the trace does not have. Raises FormatError for a trace of another model or order of neurons."""
    tables = {i: table for i, table in enumerate(manifest.tables) if table.is_self_contained}
    uses = {i: np.zeros((table.layers, table.channel_count), np.uint32) for i, table in tables.items()}
    with TraceReader(trace) as reader:
        table_of = trace_tables(manifest, reader.header, trace)
        for row in reader:
            table = table_of.get((row.layer, row.input))
            if table is not None:
                uses[table][row.layer - tables[table].layer, row.selected] += 1
    return {i: pack_ids(counted) for i, counted in uses.items()}


def trace_tables(manifest: Manifest, header: TraceHeader, trace: Path) -> Mapping[tuple[int, SelectionInput], int]:
    """The table of single bundles that each input of each layer selects from. Raises FormatError for a trace of another
    model or order of neurons."""
    tables = {i: table for i, table in enumerate(manifest.tables) if table.is_self_contained}
    table_of = {
        (layer, INPUT_OF[table.role]): i
        for i, table in tables.items()
        for layer in range(table.layer, table.layer + table.layers)
    }
    if {"neuron", "down"} & set(header.channels) and header.neuron_order != manifest.neuron_order:
        raise FormatError(
            f"{trace} holds neurons in {_named(header.neuron_order)}, the model stores them in "
            f"{_named(manifest.neuron_order)}; record a trace of this model: tidemill trace"
        )
    for layer, name in table_of:
        expected, got = tables[table_of[layer, name]].channel_count, header.channels.get(name)
        if header.layer_count != manifest.decoder.layer_count or got not in (None, expected):
            raise FormatError(
                f"{trace} is of another model: {header.layer_count} layers and {got} channels at {name}, "
                f"expected {manifest.decoder.layer_count} and {expected}; record one: tidemill trace"
            )
    return table_of


def _named(order: str) -> str:
    return f"an order of digest {order}" if order else "the source's order"
