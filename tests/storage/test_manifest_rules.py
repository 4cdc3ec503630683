"""Manifests of layouts with self-contained bundles that break a rule."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.fakes.models import TINY, write_tiny_model
from tests.fakes.tensors import MemorySource
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import fit_tables
from tidemill.storage.convert.tables import LayoutChoice, plan_tables
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import Manifest, Plane, Table
from tidemill.storage.manifest_rules import check_manifest
from tidemill.storage.model_writer import write_model

SPEC = msgspec.structs.replace(TINY, head_size=64, head_count=2, kv_head_count=1, hidden_size=128, ff_size=128)
HUGE = 1 << 60


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """4 layers in groups of 3, neurons in another order."""
    source = MemorySource(SPEC)
    order = np.roll(np.arange(128, dtype=np.uint32), 5)
    tables = plan_tables(source, "auto", lambda layer: order, LayoutChoice("input-channel", 3))
    tables = fit_tables(source, tables, lambda _: None)
    return write_model(
        tmp_path_factory.mktemp("models") / "m",
        decoder=SPEC,
        source=source.source,
        tables=tables,
        read_bundles=BundleReader(source, tables, lambda layer: order).read,
        files={},
        extent_bytes=20_000,
        on_bytes=lambda _: None,
    )


def with_table(manifest: Manifest, role: str, change: Callable[[Table], Table]) -> Manifest:
    """Change the first table of a role."""
    index = next(i for i, table in enumerate(manifest.tables) if table.role == role)
    tables = (*manifest.tables[:index], change(manifest.tables[index]), *manifest.tables[index + 1 :])
    return msgspec.structs.replace(manifest, tables=tables)


def replaced(**fields: object) -> Callable[[Table], Table]:
    return lambda table: msgspec.structs.replace(table, **fields)


@pytest.mark.parametrize(
    ("role", "change", "says"),
    [
        ("mlp_in", replaced(layers=0), "0 layers, expected 1..4"),
        ("mlp_in", replaced(layers=HUGE), "layers, expected 1..4"),
        ("mlp_in", replaced(layers=2), r"expected \('mlp_in', 0, \('input-channel', 256, 256\)\)"),
        ("attn_qkv", replaced(layers=2), "tables, the decoder needs|a table is"),
        ("mlp_in", replaced(segments=(64, 192)), r"rows of \(64, 192\)"),
        ("mlp_in", replaced(segments=()), r"rows of \(\)"),
        ("mlp_in", replaced(bundle_count=128), "a table is"),
        ("mlp_in", replaced(layout="neuron"), "a table is"),
        ("mlp_in", replaced(role="mlp_down"), "a table is|tables, the decoder needs|no table"),
        ("mlp_in", replaced(planes=(Plane("raw", 512),)), "in a codec of bundles"),
        ("mlp_in", replaced(planes=()), "no planes"),
        ("mlp_in", replaced(planes=(Plane("bf16-bundles", 449),)), "expected one of a multiple of 64"),
        ("mlp_in", replaced(planes=(Plane("bf16-bundles", 384),)), "expected one of a multiple of 64 in 448"),
        ("mlp_in", replaced(planes=(Plane("bf16-bundles", HUGE),)), "expected one of a multiple of 64"),
        ("mlp_in", replaced(planes=(Plane("raw-bundles", 512),)), r"expected \(576,\)"),
        ("mlp_in", replaced(element="f16"), "cannot be stored as bf16-bundles"),
        ("mlp_in", replaced(checksum_block_bytes=4096), "checksum blocks"),
        ("mlp_down", replaced(permutation=1), "permutation 1 does not belong"),
        ("mlp_down", replaced(permutation=HUGE), "does not belong"),
        ("attn_out", replaced(permutation=0), "does not belong"),
        ("attn_norm", replaced(layers=4), "attn_norm of layer 1 has 1 layers and rows of .* expected 3"),
        ("permutation", replaced(layers=2), "a permutation is one bundle"),
        ("final_norm", replaced(planes=(Plane("raw-bundles", 576),)), "expected 1 and none"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(
    grouped: Manifest, role: str, change: Callable[[Table], Table], says: str
) -> None:
    check_manifest(grouped, Path("manifest.json"))
    with pytest.raises(FormatError, match=says):
        check_manifest(with_table(grouped, role, change), Path("manifest.json"))


@pytest.mark.parametrize(("exceptions", "fits"), [(0, True), (-1, False), (HUGE, False)])
def test_exceptions_of_an_extent_have_a_range(grouped: Manifest, exceptions: int, fits: bool) -> None:
    index = next(i for i, extent in enumerate(grouped.extents) if grouped.tables[extent.table].role == "mlp_in")
    changed = msgspec.structs.replace(grouped.extents[index], exceptions=exceptions)
    extents = (*grouped.extents[:index], changed, *grouped.extents[index + 1 :])
    manifest = msgspec.structs.replace(grouped, extents=extents)
    if fits:
        check_manifest(manifest, Path("manifest.json"))
    else:
        with pytest.raises(FormatError, match="exceptions, expected"):
            check_manifest(manifest, Path("manifest.json"))


def test_a_channel_that_is_cut_apart_is_refused(grouped: Manifest) -> None:
    index = next(i for i, extent in enumerate(grouped.extents) if grouped.tables[extent.table].layers == 3)
    first, second = grouped.extents[index : index + 2]
    size = grouped.tables[first.table].planes[0].bundle_bytes
    shorter = msgspec.structs.replace(
        first, bundle_stop=first.bundle_stop - 1, bytes=first.bytes - size, stored_bytes=first.bytes - size
    )
    longer = msgspec.structs.replace(second, bundle_start=second.bundle_start - 1)
    extents = (*grouped.extents[:index], shorter, longer, *grouped.extents[index + 2 :])
    with pytest.raises(FormatError, match="within a channel of 3 layers"):
        check_manifest(msgspec.structs.replace(grouped, extents=extents), Path("manifest.json"))


def test_a_dense_model_has_no_groups_and_no_bundles_of_their_own(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "m")
    assert (manifest.layout, manifest.group) == ("dense", 1)
    assert b'"segments"' not in msgspec.json.encode(manifest), "readers of before would refuse the field"
    for change in (replaced(layers=2), replaced(segments=(64,))):
        with pytest.raises(FormatError):
            check_manifest(with_table(manifest, "attn_qkv", change), Path("manifest.json"))
