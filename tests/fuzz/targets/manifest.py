"""`manifest.json`: the bytes as the file, and as what a right checksum is put around."""

import functools
from pathlib import Path

from tests.fakes.models import write_tiny_model
from tests.fuzz.scratch import scratch_directory
from tidemill.storage.checksums import digest
from tidemill.storage.errors import CorruptDataError, FormatError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest_file import MANIFEST_FILE, load_manifest
from tidemill.storage.shard_reader import read_table

DECODED_BYTES_MAX = 1 << 24


@functools.cache
def model() -> tuple[Path, bytes]:
    """A directory, and the text of the manifest in it."""
    directory = scratch_directory("manifest") / "model"
    write_tiny_model(directory, layers=1, extent_bytes=16384)
    content = (directory / MANIFEST_FILE).read_bytes()
    return directory, content[content.index(b'"manifest":') + len(b'"manifest":') : -1]


def seeds() -> list[bytes]:
    return [model()[1]]


def check(data: bytes) -> None:
    directory, _ = model()
    envelope = b'{"format_version":1,"checksum":"%s","manifest":%s}' % (digest(data).encode(), data)
    for text in (data, envelope):
        (directory / MANIFEST_FILE).write_bytes(text)
        try:
            manifest = load_manifest(directory)
            if sum(extent.bytes for extent in manifest.extents) < DECODED_BYTES_MAX:  # compressed ones may be large
                for table in range(len(manifest.tables)):
                    read_table(directory, manifest, TableId(table))
        except (FormatError, CorruptDataError) as error:
            assert str(error)
