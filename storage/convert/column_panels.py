"""Columns of matrices that are stored by rows: gathered panel by panel, in bounded memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.storage.convert.tensor_source import TensorSource

PANEL_BYTES_MAX = 256 << 20  # of columns held at once
ROWS_BYTES = 8 << 20  # of the rows that they are cut from, held besides

Bytes = npt.NDArray[np.uint8]
Order = npt.NDArray[np.int64]


class ColumnPart(NamedTuple):
    """One matrix [E, K] of a panel: its row j becomes an element of every bundle, its column k one of channel k."""

    name: str
    place: int  # of its layer within the group
    first: int  # element that its first row becomes
    rows: Order | None  # source row of each element; None: as they are
    columns: Order | None  # source column of each channel


class PanelShape(NamedTuple):
    channels: int
    layers: int
    elements: int
    element_bytes: int


class ColumnPanels:
    """Holds one panel: the bundles of consecutive channels of one table, of all its layers. Whoever reads on through a
    table has each of its matrices read once for each panel."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._held: tuple[int, int] | None = None  # table, first channel
        self._panel: npt.NDArray[np.unsignedinteger] = np.empty((0, 0, 0), np.uint8)

    def read(self, table_id: int, parts: Sequence[ColumnPart], shape: PanelShape, start: int, stop: int) -> Bytes:
        """Channels [start, stop) → bytes [channels · layers, elements · element_bytes], channel by channel."""
        channel_bytes = shape.layers * shape.elements * shape.element_bytes
        width = max(1, min(shape.channels, PANEL_BYTES_MAX // channel_bytes))
        found: list[Bytes] = []
        while start < stop:
            first = start // width * width
            last = min(stop, first + width)
            if self._held != (table_id, first):
                self._fill(table_id, parts, shape, first, min(shape.channels, first + width))
            piece = self._panel[start - first : last - first]
            found.append(piece.reshape(-1, shape.elements).view(np.uint8))
            start = last
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _fill(self, table_id: int, parts: Sequence[ColumnPart], shape: PanelShape, first: int, last: int) -> None:
        self._held = None
        element = np.dtype(f"<u{shape.element_bytes}")  # whole elements move five times as fast as bytes
        self._panel = np.empty((0, 0, 0), np.uint8)  # gone before the next is made, as what was read is a view of it
        self._panel = np.empty((last - first, shape.layers, shape.elements), element)
        for part in parts:
            self._fill_part(part, self._panel[:, part.place], first, last)
        self._held = (table_id, first)

    def _fill_part(self, part: ColumnPart, panel: npt.NDArray[np.unsignedinteger], first: int, last: int) -> None:
        rows, channels = self._source.shape(part.name)
        columns = slice(first, last) if part.columns is None else part.columns[first:last]
        place_of = None if part.rows is None else part.first + np.argsort(part.rows)
        step = max(1, ROWS_BYTES // (channels * panel.dtype.itemsize))
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            elements = slice(part.first + start, part.first + stop) if place_of is None else place_of[start:stop]
            panel[:, elements] = self._source.rows(part.name, start, stop).view(panel.dtype)[:, columns].T
