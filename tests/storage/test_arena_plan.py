import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.layouts import write_blocky_model
from tests.fakes.models import write_tiny_model
from tidemill.storage.arena_plan import (
    ArenaPlan,
    ArenaTooSmallError,
    LockFirst,
    align_up,
    has_planes,
    holds_plane_0,
    least_arena_bytes,
    plan_arena,
    plane_bytes,
)
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest import Manifest

WHOLE_BYTES = 1 << 40


@pytest.fixture(scope="module", params=["raw", "bf16-planes"])
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", codec=request.param)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "planes", codec="bf16-planes", extent_bytes=8192)


def streamed(manifest: Manifest, plan: ArenaPlan) -> list[int]:
    """The extents that every step streams."""
    return [i for i in (*manifest.layer_extents, *manifest.head_extents) if not plan.is_locked(i)]


def streamed_bytes(manifest: Manifest, plan: ArenaPlan) -> int:
    return sum(align_up(manifest.extents[i].bytes) for i in streamed(manifest, plan))


def check_plan(manifest: Manifest, plan: ArenaPlan) -> None:
    """No two slots share a byte, everything is aligned and inside, and everything streamed fits a ring slot."""
    spans = [(plan.offset_of(s), align_up(manifest.extents[e].bytes)) for s, e in enumerate(plan.locked_extents)]
    sizes = [ring.slot_bytes for ring in plan.rings for _ in range(ring.slots)]
    spans += [(plan.offset_of(plan.locked_slots + i), size) for i, size in enumerate(sizes)]
    rows = plan.locked_slots + plan.ring_slots
    spans += [(plan.offset_of(rows + i), plan.row_slot_bytes) for i in range(plan.row_slots)]
    spans.sort()
    for (start, size), (after, _) in itertools.pairwise(spans):
        assert start + size <= after
    assert all(start % 4096 == 0 for start, _ in spans)
    assert spans[-1][0] + spans[-1][1] <= plan.arena_bytes
    assert len(set(plan.locked_extents)) == plan.locked_slots
    for extent in streamed(manifest, plan):
        ring = plan.rings[manifest.extents[extent].plane]
        assert ring.slots > 0
        assert manifest.extents[extent].bytes <= ring.slot_bytes


@settings(deadline=None)
@given(arena_bytes=st.integers(0, 1 << 20), lock_first=st.sampled_from(["even", "plane-0"]))
def test_an_arena_of_any_size_is_divided_within_it_or_refused_with_the_minimum(
    manifest: Manifest, arena_bytes: int, lock_first: LockFirst
) -> None:
    try:
        plan = plan_arena(manifest, arena_bytes, lock_first=lock_first)
    except ArenaTooSmallError as error:
        assert error.minimum_bytes == least_arena_bytes(manifest, lock_first) > arena_bytes
        check_plan(manifest, plan_arena(manifest, error.minimum_bytes, lock_first=lock_first))
        return
    assert plan.arena_bytes <= arena_bytes
    check_plan(manifest, plan)


def test_locking_is_spread_evenly_over_layers_and_head(manifest: Manifest) -> None:
    stream = [*manifest.layer_extents, *manifest.head_extents]
    plan = plan_arena(manifest, int(plan_arena(manifest, WHOLE_BYTES).arena_bytes * 0.6))
    locked = [extent in plan.locked_slot_of for extent in stream]
    share = sum(locked) / len(locked)
    for first in range(len(stream) - 12):
        assert abs(sum(locked[first : first + 12]) - 12 * share) <= 2.5


@settings(deadline=None)
@given(share=st.floats(0, 1))
def test_plane_0_is_locked_first_and_only_plane_1_has_a_ring(planes: Manifest, share: float) -> None:
    least, whole = least_arena_bytes(planes, "plane-0"), plan_arena(planes, WHOLE_BYTES).arena_bytes
    plan = plan_arena(planes, least + int(share * (whole - 4096 - least)), lock_first="plane-0")
    assert holds_plane_0(planes, plan)
    assert {planes.extents[i].plane for i in streamed(planes, plan)} == {1}
    assert plan.rings[0].slots == 0
    assert plan.rings[1].slots >= 4


@settings(deadline=None)
@given(share=st.floats(0, 1))
def test_a_step_streams_no_more_when_plane_0_is_locked_first(planes: Manifest, share: float) -> None:
    """Within one slot of each ring, which no locked extent fills."""
    least, whole = least_arena_bytes(planes, "plane-0"), plan_arena(planes, WHOLE_BYTES).arena_bytes
    arena_bytes = least + int(share * (whole - 4096 - least))
    even, first = (plan_arena(planes, arena_bytes, lock_first=kind) for kind in ("even", "plane-0"))
    slack = sum(ring.slot_bytes for ring in even.rings) + first.rings[1].slot_bytes
    assert streamed_bytes(planes, first) <= streamed_bytes(planes, even) + slack


def test_what_is_left_beside_plane_0_locks_plane_1_evenly(planes: Manifest) -> None:
    least, whole = least_arena_bytes(planes, "plane-0"), plan_arena(planes, WHOLE_BYTES).arena_bytes
    plan = plan_arena(planes, (least + whole) // 2, lock_first="plane-0")
    fine = [i for i in (*planes.layer_extents, *planes.head_extents) if planes.extents[i].plane == 1]
    locked = [plan.is_locked(i) for i in fine]
    share = sum(locked) / len(locked)
    assert 0.2 < share < 0.9
    for first in range(len(fine) - 12):
        assert abs(sum(locked[first : first + 12]) - 12 * share) <= 2.5


def test_weights_of_one_plane_are_locked_whole_or_not_at_all(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "raw")
    least = least_arena_bytes(manifest, "plane-0")
    assert plan_arena(manifest, least, lock_first="plane-0").ring_slots == 0
    with pytest.raises(ArenaTooSmallError):
        plan_arena(manifest, least - 1, lock_first="plane-0")


def test_coarse_weights_are_seen_in_a_plan_that_holds_them_by_whatever_order(planes: Manifest) -> None:
    assert holds_plane_0(planes, plan_arena(planes, WHOLE_BYTES))
    assert not holds_plane_0(planes, plan_arena(planes, least_arena_bytes(planes)))


@pytest.mark.parametrize(("codec", "has"), [("bf16-planes", True), ("fp16-planes", True), ("raw", False)])
def test_dense_models_in_planes_have_coarse_weights(tmp_path: Path, codec: str, has: bool) -> None:
    assert has_planes(write_tiny_model(tmp_path / "model", codec=codec)) == has


def test_single_bundles_have_no_coarse_weights(tmp_path: Path) -> None:
    assert not has_planes(write_blocky_model(tmp_path / "model", LayoutChoice("neuron", 1), codec="bf16-planes"))


def test_the_planes_are_all_that_layers_and_head_take(manifest: Manifest) -> None:
    whole = sum(align_up(manifest.extents[i].bytes) for i in (*manifest.layer_extents, *manifest.head_extents))
    assert plane_bytes(manifest, 0) + plane_bytes(manifest, 1) == whole
    assert (plane_bytes(manifest, 1) == 0) == (manifest.matrix_kinds == ("bf16",))
