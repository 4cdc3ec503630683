"""Neuron orders from a trace of what a run selected.

Neurons are the channels of input `down`, and the selections of input `neuron`. Ids are taken for the source's, so a
trace of a model that stores its neurons in another order is refused.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tidemill.storage.convert.neuron_order import Order32, order_by_coactivation, order_by_frequency
from tidemill.storage.errors import SourceError
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader

OrderBy = Literal["frequency", "coactivation"]
ORDERS_BY: tuple[OrderBy, ...] = get_args(OrderBy)
NEURON_INPUTS: tuple[SelectionInput, ...] = ("neuron", "down")  # the first that a trace has
MAGIC = b"ARROW1"


def is_trace(path: Path) -> bool:
    """Whether a file is an Arrow file at all. Raises SourceError when it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def orders_from_trace(path: Path, by: OrderBy, *, layer_count: int, neuron_count: int) -> dict[int, Order32]:
    """The order of each layer that the trace has neurons of. Holds the selections of one layer at a time and reads the
    trace once for each. Raises SourceError for a trace of another model, FormatError for what is no trace."""
    orders: dict[int, Order32] = {}
    with TraceReader(path) as trace:
        name = _neuron_input(path, trace.header, layer_count, neuron_count)
        for layer in range(layer_count):
            selections = [np.array(row.selected) for row in trace if row.layer == layer and row.input == name]
            if selections:
                orders[layer] = _order(selections, by, neuron_count)
    if not orders:
        raise SourceError(f"{path} has no position with a selection of neurons; record a longer trace")
    return orders


def _order(selections: list[npt.NDArray[np.uint32]], by: OrderBy, neuron_count: int) -> Order32:
    if by == "coactivation":
        return order_by_coactivation(selections, neuron_count)
    return order_by_frequency(np.bincount(np.concatenate(selections), minlength=neuron_count))


def _neuron_input(path: Path, header: TraceHeader, layer_count: int, neuron_count: int) -> SelectionInput:
    name = next((name for name in NEURON_INPUTS if name in header.channels), None)
    if name is None:
        raise SourceError(f"{path} records inputs {', '.join(header.inputs)}; expected {' or '.join(NEURON_INPUTS)}")
    if header.neuron_order:
        raise SourceError(
            f"{path} is of {header.model}, which stores its neurons in an order of its own (digest "
            f"{header.neuron_order}): its ids are places in that order, not the source's neurons; trace a model that "
            "was converted without --order"
        )
    got = (header.layer_count, header.channels[name])
    if got != (layer_count, neuron_count):
        raise SourceError(
            f"{path} is of a model of {got[0]} layers and {got[1]} neurons, expected {layer_count} and {neuron_count}"
        )
    return name
