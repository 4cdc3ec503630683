"""Writes a trace while a run goes on. Memory stays bounded: rows go out in batches of about BATCH_IDS ids."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.storage.errors import DeviceError, FormatError
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.schema import trace_schema

BATCH_IDS = 1 << 20


class TraceWriter:
    """A context manager: the file gets its name when the block ends well, and is removed when it does not. What the
    file system refuses is a DeviceError.

    Rows rise by (position, layer, place of the input in the header's `channels`); the ids of a row rise. Anything else
    is a FormatError at once, so a trace that exists can be read.
    """

    def __init__(self, path: Path, header: TraceHeader) -> None:
        header.check(str(path))
        self._path = path
        self._header = header
        self._schema = trace_schema(header)
        self._places = {name: place for place, name in enumerate(header.inputs)}
        self._last = (-1, 0, 0)
        self._positions: list[int] = []
        self._layers: list[int] = []
        self._inputs: list[int] = []
        self._selected: list[npt.NDArray[np.uint32]] = []
        self._buffered_ids = 0

    def __enter__(self) -> Self:
        self._temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.writing")
        with self._writing():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = pa.OSFile(str(self._temporary), "wb")
            self._writer = pa.ipc.new_file(self._file, self._schema)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                with self._writing():
                    self._writer.close()
                    self._file.close()
                    self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):  # of a file that is removed anyway
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, position: int, layer: int, name: SelectionInput, selected: npt.NDArray[np.uint32]) -> None:
        """One row; `selected` [n] is copied. Raises FormatError for what a reader would refuse."""
        where = f"{self._path}: position {position}, layer {layer}, input {name!r}"
        place = self._places.get(name)
        if place is None:
            raise FormatError(f"{where}: the header names {', '.join(self._places)} only")
        row = (position, layer, place)
        if not (0 <= position < 1 << 32 and 0 <= layer < self._header.layer_count):
            raise FormatError(f"{where}: expected a u32 position and a layer below {self._header.layer_count}")
        if row <= self._last:
            raise FormatError(f"{where}: rows must rise by position, layer and input; the last one was {self._last}")
        if selected.size and (
            int(selected[-1]) >= self._header.channels[name] or np.any(selected[1:] <= selected[:-1])
        ):
            raise FormatError(f"{where}: ids must rise and lie below {self._header.channels[name]}")
        self._last = row
        self._positions.append(position)
        self._layers.append(layer)
        self._inputs.append(place)
        self._selected.append(np.array(selected, dtype=np.uint32))
        self._buffered_ids += selected.size
        if self._buffered_ids >= BATCH_IDS or len(self._positions) >= BATCH_IDS:
            self._flush()

    def _flush(self) -> None:
        if not self._positions:
            return
        offsets = np.zeros(len(self._selected) + 1, np.int32)
        np.cumsum([ids.size for ids in self._selected], out=offsets[1:])
        schema = self._schema
        columns = [
            pa.array(np.array(self._positions, np.uint32)),
            pa.array(np.array(self._layers, np.uint16)),
            pa.DictionaryArray.from_arrays(pa.array(np.array(self._inputs, np.int8)), pa.array(self._header.inputs)),
            pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(np.concatenate(self._selected)), type=schema.field("selected").type
            ),
        ]
        with self._writing():
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        for buffered in (self._positions, self._layers, self._inputs, self._selected):
            buffered.clear()
        self._buffered_ids = 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = os.strerror(error.errno) if error.errno else str(error)
            raise DeviceError(
                f"{self._path}: the trace cannot be written (last row: position {self._last[0]}): {what}; "
                "free space, or write it elsewhere"
            ) from None
