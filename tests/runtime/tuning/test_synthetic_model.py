from pathlib import Path

import msgspec
import numpy as np
import pytest

from tidemill.runtime.tuning.synthetic_model import KINDS, exception_lists, plan_synthetic_model, set_bundles
from tidemill.storage.arena_plan import align_up, plan_arena
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import bundle_tables
from tidemill.storage.codecs.bf16_bundles import find_bad_bundle
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Shard
from tidemill.storage.manifest_rules import check_manifest

MIB = 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_at_least_the_weights_asked_for_and_less_than_a_layer_more(kind: str) -> None:
    small, large = (plan_synthetic_model(kind, weight_bytes=size) for size in (1, 200 * MIB))
    layer_bytes = small.bytes_of(small.layer_extents)
    assert small.decoder.layer_count == 1
    assert 200 * MIB <= large.bytes_of(large.layer_extents) < 200 * MIB + layer_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_rules_of_the_format(kind: str) -> None:
    manifest = plan_synthetic_model(kind, weight_bytes=MIB)
    shifted = [msgspec.structs.replace(e, offset=e.offset + 4096) for e in manifest.extents]
    shard = Shard("shards/00000.arrow", 1 << 40, "0" * 16)
    check_manifest(msgspec.structs.replace(manifest, extents=tuple(shifted), shards=(shard,)), Path("synthetic"))


def test_extents_lie_aligned_one_after_the_other() -> None:
    extents = plan_synthetic_model("f16", weight_bytes=MIB).extents
    ends = [0, *(extent.offset + align_up(extent.bytes) for extent in extents)]
    assert [extent.offset for extent in extents] == ends[:-1]


def test_only_the_fine_plane_of_bf16_has_exceptions_and_nulls_are_none_of_them() -> None:
    assert list(exception_lists(plan_synthetic_model("bf16", weight_bytes=MIB))) == []
    manifest = plan_synthetic_model("bf16-planes", weight_bytes=MIB)
    fine = [extent for extent in manifest.extents if extent.plane == 1]
    assert len(list(exception_lists(manifest))) == len(fine) > 0
    for extent in fine:
        table = manifest.tables[extent.table]
        bundles = extent.bundle_stop - extent.bundle_start
        get_codec("bf16-planes").check(1, memoryview(bytes(extent.bytes)), table, bundles)


def test_an_arena_can_be_planned_for_it() -> None:
    assert plan_arena(plan_synthetic_model("bf16", weight_bytes=MIB), 1 << 40).ring_slots == 0


def test_bundles_are_such_as_kernels_can_follow() -> None:
    manifest = plan_synthetic_model("bf16-bundles", weight_bytes=MIB)
    assert manifest.layout == "input-channel"
    last = manifest.extents[-1]
    arena = np.random.default_rng(0).integers(0, 256, last.offset + align_up(last.bytes), np.uint8)
    set_bundles(manifest, arena)
    for index in bundle_tables(manifest):
        offsets = BundlePlaces(manifest, TableId(index)).find(np.arange(8)).offsets
        assert find_bad_bundle(arena, offsets, manifest.tables[index]) is None
