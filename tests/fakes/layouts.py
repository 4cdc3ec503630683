"""Small models in each layout, of the same weights."""

from pathlib import Path

import msgspec

from tests.fakes.models import TINY
from tests.fakes.tensors import MemorySource
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import fit_tables
from tidemill.storage.convert.tables import LayoutChoice, plan_tables
from tidemill.storage.manifest import Manifest
from tidemill.storage.model_writer import write_model

# Rows of a multiple of 64, which is what planes and coded bundles need.
BLOCKY = msgspec.structs.replace(TINY, head_size=64, head_count=2, kv_head_count=1, ff_size=128, hidden_size=128)


def write_blocky_model(directory: Path, choice: LayoutChoice, *, codec: str = "auto") -> Manifest:
    """4 layers, each of some 80,000 weights."""
    source = MemorySource(BLOCKY)
    tables = fit_tables(source, plan_tables(source, codec, None, choice), lambda count: None)
    return write_model(
        directory,
        decoder=BLOCKY,
        source=source.source,
        tables=tables,
        read_bundles=BundleReader(source, tables, None).read,
        files=source.files,
        extent_bytes=8192,
        on_bytes=lambda count: None,
    )
