"""Converts a source model into a model directory, and checks one against its source."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from tidemill.storage.checksums import digest
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import fit_tables, needs_measuring
from tidemill.storage.convert.gguf_source import GgufSource
from tidemill.storage.convert.neuron_order import NeuronOrder
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.convert.tables import AUTO_CODEC, DENSE, LayoutChoice, plan_tables
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.errors import CorruptDataError, FormatError, SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Source
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.model_writer import partial_directory, write_model
from tidemill.storage.partial_model import remove_if_empty
from tidemill.storage.shard_reader import read_bundles, read_permutation
from tidemill.storage.shard_writer import TakeSpace, write_error

Progress = Callable[[int, int], None]  # done bytes, total bytes


def open_source(path: Path) -> TensorSource:
    """A Hugging Face directory or a GGUF file. Raises SourceError, UnsupportedModelError."""
    if path.is_dir():
        return SafetensorsSource(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a Hugging Face model directory or a GGUF file")
    if path.suffix in (".bin", ".pt", ".pth", ".safetensors"):
        raise SourceError(f"{path} is one file of a model; give the directory that holds config.json and the weights")
    return GgufSource(path)


def convert_model(
    source: Path,
    destination: Path,
    *,
    codec: str = AUTO_CODEC,
    choice: LayoutChoice = DENSE,
    on_progress: Progress = lambda done, total: None,
    neuron_order: NeuronOrder | None = None,
    take_space: TakeSpace = lambda _: None,
) -> Manifest:
    """Write `destination` from `source`; a run that was killed goes on where it stopped when called again.

    `neuron_order(layer)` gives the stored order of a layer's neurons (None: the source's). Weights of tables in
    `bf16-bundles` are read once more before anything is written, to find how much room exceptions take; progress counts
    them twice. `take_space`: see ShardWriter. Raises StorageError.
    """
    _check_destination(destination)
    tensors = open_source(source)
    try:
        tables = plan_tables(tensors, codec, neuron_order, choice)
        weights = [table.bundle_count * table.bundle_bytes for table in tables]
        measured = sum(size for table, size in zip(tables, weights, strict=True) if needs_measuring(table))
        counter = _Counter(sum(weights) + measured, on_progress)
        with _only_writer(destination):
            tables = fit_tables(tensors, tables, counter.add)
            return write_model(
                destination,
                decoder=tensors.decoder,
                source=_with_order(tensors, neuron_order),
                tables=tables,
                read_bundles=BundleReader(tensors, tables, neuron_order).read,
                files=tensors.files,
                on_bytes=counter.add,
                take_space=take_space,
            )
    finally:
        tensors.close()


def verify_conversion(source: Path, destination: Path, *, on_progress: Progress = lambda done, total: None) -> None:
    """Read everything again on both sides and compare bit for bit. Raises CorruptDataError at the first difference."""
    manifest = load_manifest(destination)
    tensors = open_source(source)
    try:
        _verify_description(destination, manifest, tensors)
        reader = BundleReader(tensors, manifest.tables, _stored_order(destination, manifest))
        counter = _Counter(sum(t.bundle_count * t.bundle_bytes for t in manifest.tables), on_progress)
        for index, extent in enumerate(manifest.extents):
            if extent.plane != 0:
                continue
            stored = read_bundles(destination, manifest, index)
            expected = reader.read(TableId(extent.table), extent.bundle_start, extent.bundle_stop)
            if not np.array_equal(stored, expected):
                table = manifest.tables[extent.table]
                raise CorruptDataError(
                    f"{destination}: bundles {extent.bundle_start}..{extent.bundle_stop} of {table.role} layer "
                    f"{table.layer} differ from {source}; convert the model again"
                )
            counter.add(stored.nbytes)
    finally:
        tensors.close()


def _verify_description(destination: Path, manifest: Manifest, tensors: TensorSource) -> None:
    if manifest.decoder != tensors.decoder:
        ours, theirs = msgspec.structs.asdict(manifest.decoder), msgspec.structs.asdict(tensors.decoder)
        fields = ", ".join(f"{name} {ours[name]!r} / {theirs[name]!r}" for name in ours if ours[name] != theirs[name])
        raise CorruptDataError(
            f"{destination}: the source's decoder is another one ({fields}); convert the model again"
        )
    stored = {file.file for file in manifest.files}
    for name in sorted(stored | tensors.files.keys()):
        path = destination / name
        data = path.read_bytes() if name in stored and path.is_file() else None
        if data != tensors.files.get(name):
            raise CorruptDataError(f"{path} differs from what its source gives; convert the model again")


def _with_order(tensors: TensorSource, neuron_order: NeuronOrder | None) -> Source:
    """The source with a note of the neuron order: what is written with another order is another conversion."""
    source = tensors.source
    if neuron_order is None:
        return source
    orders = [neuron_order(layer) for layer in range(tensors.decoder.layer_count)]
    content = b"".join(b"-" if order is None else order.astype("<u4").tobytes() for order in orders)
    note = f"neurons are stored in order {digest(content)}"
    return msgspec.structs.replace(source, note=f"{source.note}; {note}" if source.note else note)


@contextmanager
def _only_writer(destination: Path) -> Iterator[None]:
    """Two conversions to one destination would write into each other's shards: the second is refused. The lock is on
    the partial directory itself, so it leaves no file and ends with its process."""
    partial = partial_directory(destination)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise write_error(partial, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FormatError(f"{partial} is being written by another conversion; wait for it or end it") from None
    except OSError:
        pass  # a file system without locks: as good as it gets there
    try:
        yield
    except BaseException:
        remove_if_empty(partial)
        raise
    finally:
        os.close(handle)


def _stored_order(directory: Path, manifest: Manifest) -> NeuronOrder | None:
    orders = {
        layer: read_permutation(directory, manifest, TableId(index), layer)
        for index, table in enumerate(manifest.tables)
        if table.permutation is not None
        for layer in range(table.layer, table.layer + table.layers)
    }
    return orders.get if orders else None


def _check_destination(destination: Path) -> None:
    resolved = destination.resolve()
    if destination.exists():
        raise FormatError(f"{destination} exists already; remove it (`tidemill rm`) or choose another destination")
    if "snapshots" in resolved.parts and any(part.startswith("models--") for part in resolved.parts):
        raise FormatError(
            f"{destination} lies inside the Hugging Face cache, which is not ours to write to; choose another place"
        )


class _Counter:
    def __init__(self, total: int, on_progress: Progress) -> None:
        self._done = 0
        self._total = total
        self._on_progress = on_progress

    def add(self, count: int) -> None:
        self._done += count
        self._on_progress(self._done, self._total)
