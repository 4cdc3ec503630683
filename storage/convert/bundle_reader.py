"""Gathers the bundles of a model's tables from the tensors of its source."""

from collections.abc import Sequence

import numpy as np

from tidemill.storage.convert.column_panels import Bytes, ColumnPanels, ColumnPart, Order, PanelShape
from tidemill.storage.convert.neuron_order import NeuronOrder, check_order
from tidemill.storage.convert.tables import tensors_of
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.errors import SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ELEMENT_BYTES, Table


class BundleReader:
    """Holds one panel of columns besides what it returns."""

    def __init__(self, source: TensorSource, tables: Sequence[Table], neuron_order: NeuronOrder | None) -> None:
        self._source = source
        self._tables = tables
        self._neuron_order = neuron_order
        self._panels = ColumnPanels(source)

    def read(self, table_id: TableId, start: int, stop: int) -> Bytes:
        """Bundles [start, stop) as bytes [N, bundle_bytes], in stored order. Raises SourceError."""
        table = self._tables[table_id]
        if table.layout == "permutation":
            return self._order(table.layer)[None, :].astype("<u4").view(np.uint8)
        if table.layout == "input-channel":
            return self._channels(table_id, table, start, stop)
        names = tensors_of(self._source.decoder, table.role, table.layer)
        if table.layout == "vector":
            return np.concatenate([self._source.rows(name, 0, 1) for name in names], axis=1)
        order = self._order(table.layer) if table.permutation is not None else None
        if table.layout == "neuron":
            rows = [self._rows(name, order, start, stop) for name in names[:-1]]
            return np.concatenate([*rows, self._down(table_id, table, order, start, stop)], axis=1)
        return self._joined_rows(names, start, stop) if order is None else self._rows(names[0], order, start, stop)

    def _joined_rows(self, names: Sequence[str], start: int, stop: int) -> Bytes:
        parts: list[Bytes] = []
        before = 0
        for name in names:
            count = self._source.shape(name)[0]
            first, last = max(0, start - before), min(count, stop - before)
            if first < last:
                parts.append(self._source.rows(name, first, last))
            before += count
        return np.concatenate(parts)

    def _rows(self, name: str, order: Order | None, start: int, stop: int) -> Bytes:
        if order is None:
            return self._source.rows(name, start, stop)
        return np.concatenate([self._source.rows(name, row, row + 1) for row in order[start:stop].tolist()])

    def _down(self, table_id: TableId, table: Table, order: Order | None, start: int, stop: int) -> Bytes:
        """The last row of neurons [start, stop): columns of the down projection."""
        name = tensors_of(self._source.decoder, table.role, table.layer)[-1]
        hidden, ff = self._source.shape(name)
        shape = PanelShape(ff, 1, hidden, ELEMENT_BYTES[table.element])
        return self._panels.read(table_id, [ColumnPart(name, 0, 0, None, order)], shape, start, stop)

    def _channels(self, table_id: TableId, table: Table, start: int, stop: int) -> Bytes:
        shape = PanelShape(table.channel_count, table.layers, table.bundle_elements, ELEMENT_BYTES[table.element])
        first = start // table.layers
        bundles = self._panels.read(table_id, self._parts(table), shape, first, -(-stop // table.layers))
        return bundles[start - first * table.layers : stop - first * table.layers]

    def _parts(self, table: Table) -> list[ColumnPart]:
        """Neurons are the rows of `mlp_in`'s matrices and the columns of `mlp_down`'s: both follow the stored order."""
        parts: list[ColumnPart] = []
        edges = np.cumsum((0, *table.segments)).tolist()
        for place in range(table.layers):
            layer = table.layer + place
            order = None if table.permutation is None else self._order(layer)
            rows, columns = (None, order) if table.role == "mlp_down" else (order, None)
            for name, first in zip(tensors_of(self._source.decoder, table.role, layer), edges, strict=False):
                parts.append(ColumnPart(name, place, first, rows, columns))
        return parts

    def _order(self, layer: int) -> Order:
        """The order of a layer's neurons; that of the source for a layer without one in a group with some."""
        if self._neuron_order is None:
            raise SourceError(f"there is no neuron order for layer {layer}, which is stored in one")
        count = self._source.decoder.ff_size
        order = self._neuron_order(layer)
        return np.arange(count) if order is None else check_order(order, layer, count)
