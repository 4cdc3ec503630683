"""Converts a source model into a model directory, and checks one against its source."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tidemill.storage.convert.gguf_source import GgufSource
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.convert.tables import BundleReader, NeuronOrder, plan_tables
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.errors import CorruptDataError, FormatError, SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.model_writer import write_model
from tidemill.storage.shard_reader import load_extents, read_permutation

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
    codec: str = "raw",
    on_progress: Progress = lambda done, total: None,
    neuron_order: NeuronOrder | None = None,
) -> Manifest:
    """Write `destination` from `source`; a run that was killed goes on where it stopped when called again.

    `neuron_order(layer)` gives the stored order of a layer's neurons (None: the source's). Raises StorageError.
    """
    _check_destination(destination)
    tensors = open_source(source)
    try:
        tables = plan_tables(tensors, codec, neuron_order)
        total = sum(table.bundle_count * table.bundle_bytes for table in tables)
        counter = _Counter(total, on_progress)
        return write_model(
            destination,
            decoder=tensors.decoder,
            source=tensors.source,
            tables=tables,
            read_bundles=BundleReader(tensors, tables, neuron_order).read,
            files=tensors.files,
            on_bytes=counter.add,
        )
    finally:
        tensors.close()


def verify_conversion(source: Path, destination: Path, *, on_progress: Progress = lambda done, total: None) -> None:
    """Read everything again on both sides and compare bit for bit. Raises CorruptDataError at the first difference."""
    manifest = load_manifest(destination)
    tensors = open_source(source)
    try:
        reader = BundleReader(tensors, manifest.tables, _stored_order(destination, manifest))
        counter = _Counter(sum(extent.bytes for extent in manifest.extents), on_progress)
        for index, extent in enumerate(manifest.extents):
            if extent.plane != 0:
                continue
            stored = np.empty(extent.bytes, np.uint8)
            load_extents(destination, manifest, [index], stored, [0])
            expected = reader.read(TableId(extent.table), extent.bundle_start, extent.bundle_stop).reshape(-1)
            if not np.array_equal(stored, expected):
                table = manifest.tables[extent.table]
                raise CorruptDataError(
                    f"{destination}: bundles {extent.bundle_start}..{extent.bundle_stop} of {table.role} layer "
                    f"{table.layer} differ from "
                    f"{source}; convert the model again"
                )
            counter.add(extent.bytes)
    finally:
        tensors.close()


def _stored_order(directory: Path, manifest: Manifest) -> NeuronOrder | None:
    orders = {
        table.layer: read_permutation(directory, manifest, TableId(index))
        for index, table in enumerate(manifest.tables)
        if table.permutation is not None
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
