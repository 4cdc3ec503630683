"""Writes a model directory: shards one by one, resumable, then the manifest, then the name. Deterministic."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage import layout
from tidemill.storage.checksums import block_digests, digest
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import DeviceError, FormatError
from tidemill.storage.ids import TableId
from tidemill.storage.layout import ExtentPlan, plan_shards
from tidemill.storage.manifest import ALIGNMENT_BYTES, FORMAT_VERSION, Extent, Manifest, ModelFile, Shard, Source, Table
from tidemill.storage.manifest_file import save_manifest
from tidemill.storage.shard_writer import ShardWriter, write_error

ReadBundles = Callable[[TableId, int, int], npt.NDArray[np.uint8]]
WRITER = "tidemill"


class _ShardRecord(msgspec.Struct, frozen=True):
    """The sidecar of a finished shard: what a resumed conversion needs to skip it."""

    plan: str
    shard: Shard
    extents: tuple[Extent, ...]


def partial_directory(directory: Path) -> Path:
    """Where a conversion works until it is whole."""
    return directory.with_name(directory.name + ".partial")


def write_model(
    directory: Path,
    *,
    decoder: DecoderSpec,
    source: Source,
    tables: Sequence[Table],
    read_bundles: ReadBundles,
    files: Mapping[str, bytes],
    on_bytes: Callable[[int], None],
    extent_bytes: int = layout.EXTENT_BYTES,
    shard_bytes: int = layout.SHARD_BYTES,
) -> Manifest:
    """Write `tables` (in compute order) as a model; `read_bundles(table, start, stop)` gives uint8 [N, bundle_bytes].

    Works in `<directory>.partial`; a second call after a kill skips the shards that are finished. Holds one extent at
    a time.
    `on_bytes` is told decoded bytes as they are done. Raises DeviceError (no space, I/O), FormatError (exists already).
    """
    if directory.exists():
        raise FormatError(f"{directory} exists already; remove it or choose another name")
    partial = partial_directory(directory)
    plans = plan_shards(tables, extent_bytes=extent_bytes, shard_bytes=shard_bytes)
    fingerprint = digest(msgspec.json.encode([decoder, source, tables, extent_bytes, shard_bytes, FORMAT_VERSION]))
    try:
        (partial / "shards").mkdir(parents=True, exist_ok=True)
        _check_space(partial, tables, plans, fingerprint)
        records = [
            _write_shard(partial, index, plan, tables, read_bundles, fingerprint, on_bytes)
            for index, plan in enumerate(plans)
        ]
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            writer=WRITER,
            decoder=decoder,
            source=source,
            tables=tuple(tables),
            shards=tuple(record.shard for record in records),
            extents=tuple(extent for record in records for extent in record.extents),
            files=tuple(_write_file(partial, name, data) for name, data in sorted(files.items())),
        )
        save_manifest(partial, manifest)
        for index in range(len(plans)):
            _sidecar(partial, index).unlink()
        partial.rename(directory)
    except OSError as error:
        raise write_error(partial, error) from error
    return manifest


def _write_shard(
    partial: Path,
    index: int,
    plan: Sequence[ExtentPlan],
    tables: Sequence[Table],
    read_bundles: ReadBundles,
    fingerprint: str,
    on_bytes: Callable[[int], None],
) -> _ShardRecord:
    done = _find_finished(partial, index, fingerprint)
    if done is not None:
        on_bytes(sum((part.stop - part.start) * tables[part.table].bundle_bytes for part in plan))
        return done
    name = f"shards/{index:05d}.arrow"
    extents: list[Extent] = []
    with ShardWriter(partial / name) as writer:
        for part in plan:
            table = tables[part.table]
            bundles = read_bundles(part.table, part.start, part.stop)
            extents += _encode(writer, index, part, table, bundles)
            on_bytes(bundles.nbytes)
        size, checksum = writer.finish()
    record = _ShardRecord(fingerprint, Shard(name, size, checksum), tuple(extents))
    _write_atomically(_sidecar(partial, index), msgspec.json.encode(record))
    return record


def _encode(
    writer: ShardWriter, shard: int, part: ExtentPlan, table: Table, bundles: npt.NDArray[np.uint8]
) -> list[Extent]:
    expected = (part.stop - part.start, table.bundle_bytes)
    if bundles.shape != expected or bundles.dtype != np.uint8:
        raise FormatError(
            f"table {part.table} ({table.role}): bundles are {bundles.shape}, expected {expected} of uint8"
        )
    extents: list[Extent] = []
    encoded = get_codec(table.planes[0].codec).encode(np.ascontiguousarray(bundles), table.element)
    for plane, stored in enumerate(encoded):
        label = f"{table.role} layer {table.layer} plane {plane} bundles {part.start}..{part.stop}"
        offset = writer.append(stored, label=label)
        extents.append(
            Extent(
                table=part.table,
                plane=plane,
                shard=shard,
                offset=offset,
                stored_bytes=stored.nbytes,
                bytes=(part.stop - part.start) * table.planes[plane].bundle_bytes,
                bundle_start=part.start,
                bundle_stop=part.stop,
                checksums=block_digests(stored.data, table.checksum_block_bytes),
            )
        )
    return extents


def _find_finished(partial: Path, index: int, fingerprint: str) -> _ShardRecord | None:
    try:
        record = msgspec.json.decode(_sidecar(partial, index).read_bytes(), type=_ShardRecord)
        whole = (partial / record.shard.file).stat().st_size == record.shard.bytes
    except (OSError, msgspec.MsgspecError):
        return None
    return record if whole and record.plan == fingerprint else None


def _sidecar(partial: Path, index: int) -> Path:
    return partial / "shards" / f"{index:05d}.json"


def _write_file(partial: Path, name: str, data: bytes) -> ModelFile:
    _write_atomically(partial / name, data)
    return ModelFile(name, len(data), digest(data))


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".writing")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _check_space(
    partial: Path, tables: Sequence[Table], plans: Sequence[Sequence[ExtentPlan]], fingerprint: str
) -> None:
    """Raises DeviceError when what remains to be written does not fit, before anything is."""
    needed = 0
    for index, plan in enumerate(plans):
        if _find_finished(partial, index, fingerprint) is None:
            # Each extent brings up to one page of header and padding and one of alignment.
            needed += sum((p.stop - p.start) * tables[p.table].bundle_bytes + 2 * ALIGNMENT_BYTES for p in plan)
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise DeviceError(
            f"{partial.parent} has {free / 1e9:.2f} GB free, the model needs {needed / 1e9:.2f} GB more; free some "
            "space or convert "
            "to another place"
        )
