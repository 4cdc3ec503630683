"""Writes a model directory: shards one by one, resumable, then the manifest, then the name. Deterministic."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage import layout
from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.checksums import block_digests, digest
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.decoder_rules import check_decoder
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import DeviceError, FormatError, SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.layout import ExtentPlan, plan_shards
from tidemill.storage.manifest import ALIGNMENT_BYTES, FORMAT_VERSION, Extent, Manifest, ModelFile, Shard, Source, Table
from tidemill.storage.manifest_file import MANIFEST_FILE, load_manifest, save_manifest
from tidemill.storage.manifest_rules import check_manifest
from tidemill.storage.partial_model import PartialModel, ShardRecord, shard_name
from tidemill.storage.shard_writer import ShardWriter, TakeSpace, write_error

ReadBundles = Callable[[TableId, int, int], npt.NDArray[np.uint8]]
WRITER = "tidemill"


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
    take_space: TakeSpace = lambda _: None,
) -> Manifest:
    """Write `tables` (in compute order) as a model; `read_bundles(table, start, stop)` gives uint8 [N, bundle_bytes].

    Works in `<directory>.partial`; a second call after a kill skips the shards that are finished. Holds one extent at
    a time. `on_bytes` is told decoded bytes as they are done, `take_space` bytes of shards before they are written.
    Raises DeviceError (no space, I/O), SourceError (the source cannot be read), FormatError (exists already, breaks a
    rule).
    """
    if directory.exists():
        raise FormatError(f"{directory} exists already; remove it or choose another name")
    check_decoder(decoder)  # hours before check_manifest would see it
    partial = PartialModel(partial_directory(directory), take_space)
    plans = plan_shards(tables, extent_bytes=extent_bytes, shard_bytes=shard_bytes)
    fingerprint = digest(msgspec.json.encode([decoder, source, tables, extent_bytes, shard_bytes, FORMAT_VERSION]))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        writer=WRITER,
        decoder=decoder,
        source=source,
        tables=tuple(tables),
        shards=(),
        extents=(),
        files=tuple(ModelFile(name, len(data), digest(data)) for name, data in sorted(files.items())),
    )
    try:
        whole = _find_whole(partial.path, manifest, plans)
        if whole is None:
            records = _write_shards(partial, plans, manifest, read_bundles, fingerprint, on_bytes)
            whole = _write_manifest(partial.path, manifest, records, files)
        else:
            on_bytes(sum(_plan_bytes(plan, tables) for plan in plans))
        partial.finish(directory, {MANIFEST_FILE, *files, *(shard.file for shard in whole.shards)})
    except OSError as error:
        raise write_error(partial.path, error) from error
    return whole


def _find_whole(partial: Path, manifest: Manifest, plans: Sequence[Sequence[ExtentPlan]]) -> Manifest | None:
    """What a run that ended just before the last step has left: the model with all its shards, but no name."""
    try:
        found = load_manifest(partial)
    except FormatError:
        return None
    same = msgspec.structs.replace(found, shards=(), extents=()) == manifest
    got = {(e.shard, e.table, e.bundle_start, e.bundle_stop) for e in found.extents}
    planned = {(index, p.table, p.start, p.stop) for index, plan in enumerate(plans) for p in plan}
    there = all((partial / file.file).is_file() for file in found.files)
    return found if same and got == planned and there else None


def _write_manifest(
    partial: Path, manifest: Manifest, records: Sequence[ShardRecord], files: Mapping[str, bytes]
) -> Manifest:
    for name, data in sorted(files.items()):
        write_atomically(partial / name, data)
    whole = msgspec.structs.replace(
        manifest,
        shards=tuple(record.shard for record in records),
        extents=tuple(extent for record in records for extent in record.extents),
    )
    check_manifest(whole, partial / MANIFEST_FILE)
    save_manifest(partial, whole)
    return whole


def _plan_bytes(plan: Sequence[ExtentPlan], tables: Sequence[Table]) -> int:
    return sum((part.stop - part.start) * tables[part.table].bundle_bytes for part in plan)


def _write_shards(
    partial: PartialModel,
    plans: Sequence[Sequence[ExtentPlan]],
    manifest: Manifest,
    read_bundles: ReadBundles,
    fingerprint: str,
    on_bytes: Callable[[int], None],
) -> Sequence[ShardRecord]:
    finished = partial.find_finished(len(plans), fingerprint)
    partial.start(finished)
    _check_space(partial.path, manifest.tables, plans, finished)
    on_bytes(sum(_plan_bytes(plans[index], manifest.tables) for index in finished))
    return [
        finished.get(index) or _write_shard(partial, index, plan, manifest, read_bundles, fingerprint, on_bytes)
        for index, plan in enumerate(plans)
    ]


def _write_shard(
    partial: PartialModel,
    index: int,
    plan: Sequence[ExtentPlan],
    manifest: Manifest,
    read_bundles: ReadBundles,
    fingerprint: str,
    on_bytes: Callable[[int], None],
) -> ShardRecord:
    name = shard_name(index)
    extents: list[Extent] = []
    with ShardWriter(partial.path / name, take_space=partial.take_space) as writer:
        for part in plan:
            table = manifest.tables[part.table]
            bundles = _read(read_bundles, part, table, manifest.source)
            extents += _encode(writer, index, part, table, bundles)
            on_bytes(bundles.nbytes)
        size, checksum = writer.finish()
    record = ShardRecord(fingerprint, Shard(name, size, checksum), tuple(extents))
    partial.add_record(index, record)
    return record


def _read(read_bundles: ReadBundles, part: ExtentPlan, table: Table, source: Source) -> npt.NDArray[np.uint8]:
    """Raises SourceError for a failing disk of the source, which the error of a write would be taken for."""
    try:
        return read_bundles(part.table, part.start, part.stop)
    except OSError as error:
        raise SourceError(
            f"cannot read bundles {part.start}..{part.stop} of {table.role} layer {table.layer} from the source "
            f"{source.name}: {error}; check its disk and run the same command again: it goes on where it stopped"
        ) from error


def _encode(
    writer: ShardWriter, shard: int, part: ExtentPlan, table: Table, bundles: npt.NDArray[np.uint8]
) -> list[Extent]:
    expected = (part.stop - part.start, table.bundle_bytes)
    if bundles.shape != expected or bundles.dtype != np.uint8:
        raise FormatError(
            f"table {part.table} ({table.role}): bundles are {bundles.shape}, expected {expected} of uint8"
        )
    extents: list[Extent] = []
    codec = get_codec(table.planes[0].codec)
    for plane, encoded in enumerate(codec.encode(np.ascontiguousarray(bundles), table)):
        stored = encoded.stored
        codec.seal(stored, table, part.table, part.start)
        label = f"{table.role} layer {table.layer} plane {plane} bundles {part.start}..{part.stop}"
        offset = writer.append(stored, label=label)
        extents.append(
            Extent(
                table=part.table,
                plane=plane,
                shard=shard,
                offset=offset,
                stored_bytes=stored.nbytes,
                bytes=encoded.placed_bytes,
                bundle_start=part.start,
                bundle_stop=part.stop,
                checksums=block_digests(stored.data, table.checksum_block_bytes),
                exponent_base=encoded.exponent_base,
                exceptions=encoded.exceptions,
            )
        )
    return extents


def _check_space(
    partial: Path, tables: Sequence[Table], plans: Sequence[Sequence[ExtentPlan]], finished: Mapping[int, ShardRecord]
) -> None:
    """Raises DeviceError when what remains to be written does not fit, before anything is."""
    needed = 0
    for index, plan in enumerate(plans):
        if index not in finished:
            # Each extent brings up to one page of header and padding and one of alignment.
            needed += sum((p.stop - p.start) * _most_bytes(tables[p.table]) + 2 * ALIGNMENT_BYTES for p in plan)
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise DeviceError(
            f"{partial.parent} has {free / 1e9:.2f} GB free, the model needs {needed / 1e9:.2f} GB more; free some "
            "space or convert "
            "to another place"
        )


def _most_bytes(table: Table) -> int:
    """Of a bundle: what is known before compression, or whole with what raw-bundles put behind it."""
    return max(table.bundle_bytes, sum(plane.bundle_bytes for plane in table.planes))
