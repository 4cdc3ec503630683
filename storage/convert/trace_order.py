"""Neuron orders from a trace: an Arrow file of what a run selected. The only part of conversion that reads one.

A row is a position's selection at one input of one layer; columns used here: `layer` u16, `input` dictionary of
strings, `selected` list of u32. Neurons are the channels of input `down`, and the selections of input `neuron`. The
traced model must store its neurons in the source's order, as the ids are taken for the source's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.storage.convert.neuron_order import Order32, order_by_coactivation, order_by_frequency
from tidemill.storage.errors import SourceError

OrderBy = Literal["frequency", "coactivation"]
ORDERS_BY: tuple[OrderBy, ...] = get_args(OrderBy)
NEURON_INPUTS = ("down", "neuron")
MAGIC = b"ARROW1"


def is_trace(path: Path) -> bool:
    """Whether a file is an Arrow file at all. Raises SourceError when it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def orders_from_trace(path: Path, by: OrderBy, *, layer_count: int, neuron_count: int) -> dict[int, Order32]:
    """The order of each layer that the trace has neurons of; a pass over the file for each. Raises SourceError."""
    orders: dict[int, Order32] = {}
    try:
        for layer in range(layer_count):
            selections = list(_selections(path, layer))
            if not selections:
                continue
            if any(len(selected) and int(selected.max()) >= neuron_count for selected in selections):
                raise SourceError(f"{path} selects neurons of layer {layer} beyond the {neuron_count} of this model")
            if by == "coactivation":
                orders[layer] = order_by_coactivation(selections, neuron_count)
            else:
                orders[layer] = order_by_frequency(np.bincount(np.concatenate(selections), minlength=neuron_count))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise SourceError(f"{path} cannot be read as a trace: {error}") from None
    if not orders:
        raise SourceError(f"{path} has no selections of neurons (inputs {', '.join(NEURON_INPUTS)}) of such a model")
    return orders


def _selections(path: Path, layer: int) -> Iterator[npt.NDArray[np.uint32]]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            names = pc.cast(batch["input"], pa.string())
            wanted = pc.and_(pc.equal(batch["layer"], layer), pc.is_in(names, pa.array(NEURON_INPUTS)))
            for selected in pc.filter(batch["selected"], wanted):
                yield selected.values.to_numpy().astype(np.uint32)
