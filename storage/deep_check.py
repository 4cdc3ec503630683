"""Verification of a model's every byte, for `tidemill doctor --deep`. The only reader that imports pyarrow."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.errors import StorageError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
from tidemill.storage.shard_reader import read_stored


def check_shard(directory: Path, manifest: Manifest, index: int) -> list[str]:
    """What plain pyarrow finds wrong with a shard: it must open and hold one batch per extent of the right size."""
    shard = manifest.shards[index]
    sizes = [extent.stored_bytes for extent in manifest.extents if extent.shard == index]
    try:
        with pa.memory_map(str(directory / shard.file)) as source:
            reader = pa.ipc.open_file(source)
            got = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    except (pa.ArrowException, OSError) as error:
        return [f"{shard.file}: not a readable Arrow file: {error}"]
    return [] if got == sizes else [f"{shard.file}: its batches do not have the sizes of the manifest's extents"]


def check_extents(directory: Path, manifest: Manifest) -> list[str]:
    """Every extent through its codec: checksum, what kernels follow, and the digest of each bundle that has one."""
    problems: list[str] = []
    for index, extent in enumerate(manifest.extents):
        table = manifest.tables[extent.table]
        codec = get_codec(table.planes[extent.plane].codec)
        try:
            stored = read_stored(directory, manifest, index)
            placed = np.empty(extent.bytes, np.uint8)
            codec.decode(extent.plane, memoryview(stored), placed.data)
            codec.check(extent.plane, placed.data, table, extent.bundle_stop - extent.bundle_start)
            codec.verify(placed, table, TableId(extent.table), extent.bundle_start)
        except (StorageError, OSError) as error:
            problems.append(f"extent {index}: {error}")
    return problems
