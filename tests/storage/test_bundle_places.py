from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.fakes.models import TINY
from tests.fakes.tensors import MemorySource
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.codecs.bundle_digest import verify_bundle
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import fit_tables
from tidemill.storage.convert.tables import LayoutChoice, plan_tables
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import Manifest
from tidemill.storage.model_writer import write_model
from tidemill.storage.read_plan import ReadPlanner, RequestTimes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    directory = tmp_path_factory.mktemp("models") / "m"
    spec = msgspec.structs.replace(TINY, head_size=64, head_count=2, kv_head_count=1, hidden_size=128)
    source = MemorySource(spec)
    tables = fit_tables(source, plan_tables(source, "auto", None, LayoutChoice("input-channel", 3)), lambda _: None)
    manifest = write_model(
        directory,
        decoder=spec,
        source=source.source,
        tables=tables,
        read_bundles=BundleReader(source, tables, None).read,
        files={},
        extent_bytes=20_000,
        shard_bytes=200_000,
        on_bytes=lambda _: None,
    )
    return directory, manifest


def test_every_bundle_is_found_and_says_so_by_its_digest(model: tuple[Path, Manifest]) -> None:
    directory, manifest = model
    files = [(directory / shard.file).read_bytes() for shard in manifest.shards]
    shards_of_a_table = []
    for role in ("attn_qkv", "mlp_in", "mlp_down"):
        table_id = manifest.get_table(role, 1)
        places = BundlePlaces(manifest, table_id)
        bundles = np.arange(places.bundle_count)
        found = places.find(bundles)
        for bundle, shard, offset in zip(bundles.tolist(), found.shards.tolist(), found.offsets.tolist(), strict=True):
            assert verify_bundle(memoryview(files[shard])[offset : offset + places.bundle_bytes], table_id, bundle)
        shards_of_a_table.append(len(set(found.shards.tolist())))
    assert max(shards_of_a_table) > 1


def test_a_read_plan_of_a_layers_channels_holds_their_bundles(model: tuple[Path, Manifest]) -> None:
    directory, manifest = model
    table_id = manifest.get_table("mlp_in", 1)
    places = BundlePlaces(manifest, table_id)
    bundles = manifest.tables[table_id].bundles_of(np.arange(0, 128, 3), 1)
    found = places.find(bundles)
    times = RequestTimes(np.array([4096.0, 65536.0]), np.array([50e-6, 80e-6]))
    plan = ReadPlanner(times, max_bytes=65536).plan(found.shards, found.offsets, places.bundle_bytes)
    assert plan.requests < len(bundles)
    for read, (shard, offset, size) in enumerate(zip(plan.shards, plan.offsets, plan.sizes, strict=True)):
        with (directory / manifest.shards[shard].file).open("rb") as file:
            file.seek(offset)
            data = memoryview(file.read(size))
        for index in range(plan.first[read], plan.last[read] + 1):
            place = int(plan.places[index])
            assert verify_bundle(data[place : place + places.bundle_bytes], table_id, int(bundles[index]))


def test_tables_without_bundles_of_their_own_are_refused(model: tuple[Path, Manifest]) -> None:
    manifest = model[1]
    with pytest.raises(FormatError, match="one by one"):
        BundlePlaces(manifest, manifest.head_table)
