from pathlib import Path

import pytest

from tests.fakes.models import TINY, write_tiny_model
from tidemill.runtime.planning.workload import element_bytes, plan_workload
from tidemill.storage.arena_plan import ArenaTooSmallError, align_up, plan_arena
from tidemill.storage.manifest import Manifest, Plane


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def smallest_arena(manifest: Manifest) -> int:
    with pytest.raises(ArenaTooSmallError) as caught:
        plan_arena(manifest, 0)
    return caught.value.minimum_bytes


def test_a_resident_model_reads_nothing_and_computes_with_everything(manifest: Manifest) -> None:
    work = plan_workload(manifest, plan_arena(manifest, 1 << 30))
    assert work.layers.read_sizes == work.head.read_sizes == ()
    assert work.ring_bytes == work.row_bytes == 0
    assert work.layers.weight_bytes == {"bf16": manifest.bytes_of(manifest.layer_extents)}
    assert work.head.weight_bytes == {"bf16": manifest.bytes_of(manifest.head_extents)}
    assert element_bytes(work.layers) == 2.0


def test_every_extent_is_either_loaded_once_or_streamed(manifest: Manifest) -> None:
    for arena_bytes in (smallest_arena(manifest), 300_000, 1 << 30):
        work = plan_workload(manifest, plan_arena(manifest, arena_bytes))
        sizes = sorted([*work.load_sizes, *work.layers.read_sizes, *work.head.read_sizes])
        assert sizes == sorted(align_up(extent.stored_bytes) for extent in manifest.extents)


def test_the_smallest_arena_streams_all_matrices_but_the_odd_extent(manifest: Manifest) -> None:
    work = plan_workload(manifest, plan_arena(manifest, smallest_arena(manifest)))
    streamed = len(work.layers.read_sizes) + len(work.head.read_sizes)
    assert streamed == len(manifest.layer_extents) + len(manifest.head_extents)
    assert work.row_bytes > 0


def test_compressed_extents_count_what_lies_on_flash_and_what_comes_out(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "zstd", codec="zstd")
    work = plan_workload(manifest, plan_arena(manifest, smallest_arena(manifest)))
    assert work.layers.decoded_bytes == {"zstd": manifest.bytes_of(manifest.layer_extents)}
    stored = sum(align_up(manifest.extents[i].stored_bytes) for i in manifest.layer_extents)
    assert work.layers.streamed_bytes == stored


def test_weights_are_counted_once_however_many_planes(manifest: Manifest) -> None:
    work = plan_workload(manifest, plan_arena(manifest, 1 << 30))
    per_layer = TINY.hidden_size * (TINY.qkv_size + TINY.q_size + 3 * TINY.ff_size)
    assert work.layers.weights == TINY.layer_count * per_layer
    assert work.head.weights == TINY.vocab_size * TINY.hidden_size


def test_planes_are_a_kind_of_their_own(manifest: Manifest) -> None:
    import msgspec

    table = manifest.tables[manifest.head_table]
    assert table.kind == "bf16"
    planes = (Plane("bf16-planes", 64), Plane("bf16-planes", 32))
    assert msgspec.structs.replace(table, planes=planes).kind == "bf16-planes"
