"""Reads traces that anybody may have written. Knows the format, not what the selections are used for.

The file is mapped and read batch by batch; nothing is allocated by what the file says of its own sizes: compressed
buffers and large batches are refused before Arrow decodes them.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.storage.errors import FormatError
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.schema import parse_schema

BATCH_BYTES_MAX = 64 << 20
BATCHES_MAX = 1 << 20
MAGIC_BYTES = 8  # "ARROW1\0\0", then a stream


class TraceRow(NamedTuple):
    position: int
    layer: int
    input: SelectionInput
    selected: npt.NDArray[np.uint32]  # [n], rising; a view of the mapped file


class TraceReader:
    """A context manager over one file; rows may be iterated as often as needed and are valid inside the block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Raises FormatError, VersionError for a file that is no trace, of another version, or cut short."""
        if not self._path.is_file():
            raise FormatError(f"{self._path} is not a file; record one with `tidemill trace`")
        try:
            self._source = pa.memory_map(str(self._path))
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{self._path} cannot be read: {error}") from None
        try:
            self.header = self._open()
        except BaseException:
            self._source.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._source.close()

    def __iter__(self) -> Iterator[TraceRow]:
        """Rows in order, each checked. Raises FormatError that names the first row that breaks the format."""
        inputs = self.header.inputs
        first_row, last_key = 0, -1
        for batch in self._batches():
            rows = _Rows(batch, self.header, f"{self._path}: row {first_row} and on")
            last_key = rows.check(last_key)
            first_row += batch.num_rows
            stops = rows.offsets[1:].tolist()
            start = int(rows.offsets[0])
            for position, layer, place, stop in zip(
                rows.positions.tolist(), rows.layers.tolist(), rows.places.tolist(), stops, strict=True
            ):
                yield TraceRow(position, layer, inputs[place], rows.ids[start:stop])
                start = stop

    def _open(self) -> TraceHeader:
        try:
            batches = pa.ipc.open_file(self._source).num_record_batches
            self._source.seek(MAGIC_BYTES)
            got = self._check_messages(pa.ipc.MessageReader.open_stream(self._source))
            self._source.seek(MAGIC_BYTES)  # the stream's schema, not the footer's: it is what batches are decoded by
            header = parse_schema(pa.ipc.open_stream(self._source).schema, str(self._path))
        except (pa.ArrowException, OSError, struct.error, UnicodeDecodeError) as error:
            raise FormatError(f"{self._path} is not a whole Arrow file: {error}; record the trace again") from None
        if got != batches:
            raise FormatError(f"{self._path}: {got} batches, its footer says {batches}; record the trace again")
        return header

    def _check_messages(self, messages: pa.ipc.MessageReader) -> int:
        """The number of record batches; every one is small and not compressed."""
        count = 0
        for message in messages:
            if message.type == "record batch":
                count += 1
            if message.type in ("record batch", "dictionary") and _is_compressed(message):
                raise FormatError(f"{self._path}: its batches are compressed; a trace is stored as it is")
            body_bytes = 0 if message.body is None else message.body.size
            if body_bytes > BATCH_BYTES_MAX or count > BATCHES_MAX:
                raise FormatError(
                    f"{self._path}: batch {count} has {body_bytes} bytes; at most {BATCH_BYTES_MAX} in at most "
                    f"{BATCHES_MAX} batches are allowed"
                )
        return count

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            self._source.seek(MAGIC_BYTES)
            reader = pa.ipc.open_stream(self._source)
            for batch in reader:
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FormatError(f"{self._path} is damaged: {error}; record the trace again") from None


class _Rows:
    """The columns of one valid batch as arrays, and the rules that Arrow does not know."""

    def __init__(self, batch: pa.RecordBatch, header: TraceHeader, where: str) -> None:
        self._header = header
        self._where = where
        position, layer, name, selected = batch.columns
        if any(column.null_count for column in (*batch.columns, selected.values)):
            raise FormatError(f"{where}: nulls; a trace has none")
        names = name.dictionary.to_pylist()
        if not set(names) <= set(header.inputs):
            raise FormatError(f"{where}: its inputs are {names}, the header says {list(header.inputs)}")
        places = np.array([header.inputs.index(name) for name in names], np.int64)
        self.positions: npt.NDArray[np.uint32] = position.to_numpy()
        self.layers: npt.NDArray[np.uint16] = layer.to_numpy()
        self.places: npt.NDArray[np.int64] = places[name.indices.to_numpy()]
        self.offsets: npt.NDArray[np.int32] = selected.offsets.to_numpy()
        self.ids: npt.NDArray[np.uint32] = selected.values.to_numpy()

    def check(self, last_key: int) -> int:
        """Rows rise from `last_key` on, ids rise and exist. Returns the key of the last row."""
        header = self._header
        if self.layers.size == 0:
            return last_key
        if int(self.layers.max()) >= header.layer_count:
            raise FormatError(f"{self._where}: layer {self.layers.max()}, the header says {header.layer_count} layers")
        keys = (self.positions.astype(np.int64) * header.layer_count + self.layers) * len(header.inputs) + self.places
        if keys[0] <= last_key or np.any(np.diff(keys) <= 0):
            raise FormatError(f"{self._where}: rows must rise by position, layer and input")
        self._check_ids()
        return int(keys[-1])

    def _check_ids(self) -> None:
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        ids = self.ids[first:last]
        starts = self.offsets[:-1] - first
        filled = self.offsets[1:] > self.offsets[:-1]
        rising = np.empty(ids.size, np.bool_)
        np.greater(ids[1:], ids[:-1], out=rising[1:])
        rising[starts[filled]] = True  # the first of a row follows nothing
        if not rising.all():
            raise FormatError(f"{self._where}: the ids of a row must rise")
        counts = np.array([self._header.channels[name] for name in self._header.inputs], np.int64)
        largest = ids[self.offsets[1:][filled] - first - 1]  # they rise: the last is the largest
        wrong = np.flatnonzero(largest >= counts[self.places[filled]])
        if wrong.size:
            row = int(np.flatnonzero(filled)[wrong[0]])
            raise FormatError(
                f"{self._where}: id {largest[wrong[0]]} in layer {self.layers[row]}, but input "
                f"{self._header.inputs[self.places[row]]!r} has {counts[self.places[row]]} channels"
            )


def _is_compressed(message: pa.Message) -> bool:
    """Whether a RecordBatch (or the one in a DictionaryBatch) has the field `compression` (Arrow's Message.fbs).

    pyarrow would allocate the uncompressed size that a buffer states before it is asked.
    """
    data = message.metadata.to_pybytes()
    table = _follow(data, 0)
    batch = _field(data, table, 2)  # Message.header
    if message.type == "dictionary" and batch is not None:
        batch = _field(data, batch, 1)  # DictionaryBatch.data
    return batch is not None and _field(data, batch, 3) is not None


def _follow(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where the sub-table of a flatbuffer's table begins; None when it is absent."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    size = int(struct.unpack_from("<H", data, vtable)[0])
    entry = 4 + 2 * number
    offset = int(struct.unpack_from("<H", data, vtable + entry)[0]) if entry + 2 <= size else 0
    return _follow(data, table + offset) if offset else None
