import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.models import write_tiny_model
from tidemill.runtime.ledger import (
    MIB,
    CeilingTooSmallError,
    Demands,
    NotEnoughMemoryError,
    check_available,
    plan_ledger,
)
from tidemill.storage.arena_plan import ArenaPlan, ArenaTooSmallError, align_up, plan_arena
from tidemill.storage.manifest import Manifest

DEMANDS = Demands(
    processes={"engine": 60 * MIB, "compute": 130 * MIB},
    kv_bytes=2 * MIB,
    activation_bytes=MIB,
    link_bytes=3 * MIB,
    bounce_bytes=0,
)
BESIDE = (60 + 130 + 2 + 1 + 3 + 24 + 8) * MIB


@pytest.fixture(scope="module", params=["raw", "bf16-planes"])
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", codec=request.param)


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
    for extent in {*manifest.layer_extents, *manifest.head_extents} - set(plan.locked_extents):
        ring = plan.rings[manifest.extents[extent].plane]
        assert ring.slots > 0
        assert manifest.extents[extent].bytes <= ring.slot_bytes


@given(arena_bytes=st.integers(0, 1 << 20))
def test_an_arena_of_any_size_is_divided_within_it_or_refused_with_the_minimum(
    manifest: Manifest, arena_bytes: int
) -> None:
    try:
        plan = plan_arena(manifest, arena_bytes)
    except ArenaTooSmallError as error:
        assert error.minimum_bytes > arena_bytes
        plan_arena(manifest, error.minimum_bytes)
        return
    assert plan.arena_bytes <= arena_bytes
    check_plan(manifest, plan)


def test_locking_is_spread_evenly_over_layers_and_head(manifest: Manifest) -> None:
    stream = [*manifest.layer_extents, *manifest.head_extents]
    plan = plan_arena(manifest, int(plan_arena(manifest, 1 << 40).arena_bytes * 0.6))
    locked = [extent in plan.locked_slot_of for extent in stream]
    share = sum(locked) / len(locked)
    for first in range(len(stream) - 12):
        assert abs(sum(locked[first : first + 12]) - 12 * share) <= 2.5


@given(ceiling_mib=st.integers(1, 400))
def test_the_lines_add_up_to_at_most_the_ceiling_or_it_is_refused(manifest: Manifest, ceiling_mib: int) -> None:
    try:
        ledger = plan_ledger(manifest, DEMANDS, ceiling_bytes=ceiling_mib * MIB, arena_bytes=None)
    except CeilingTooSmallError as error:
        assert ceiling_mib * MIB < BESIDE + MIB
        assert "needs at least" in str(error)
        assert "process compute" in str(error)
        return
    assert ledger.total_bytes <= ceiling_mib * MIB


def test_the_minimum_that_is_named_is_enough(manifest: Manifest) -> None:
    with pytest.raises(CeilingTooSmallError) as caught:
        plan_ledger(manifest, DEMANDS, ceiling_bytes=MIB, arena_bytes=None)
    minimum = int(str(caught.value).split("at least ")[1].split(" MiB")[0])
    plan_ledger(manifest, DEMANDS, ceiling_bytes=minimum * MIB, arena_bytes=None)
    with pytest.raises(CeilingTooSmallError):
        plan_ledger(manifest, DEMANDS, ceiling_bytes=(minimum - 1) * MIB, arena_bytes=None)


def test_without_a_ceiling_the_model_is_resident(manifest: Manifest) -> None:
    assert plan_ledger(manifest, DEMANDS, ceiling_bytes=None, arena_bytes=None).arena.ring_slots == 0


def test_a_fixed_arena_that_does_not_fit_or_suffice_is_refused(manifest: Manifest) -> None:
    with pytest.raises(CeilingTooSmallError, match="does not fit --ram"):
        plan_ledger(manifest, DEMANDS, ceiling_bytes=240 * MIB, arena_bytes=200 * MIB)
    with pytest.raises(CeilingTooSmallError, match=r"--arena .* is too small"):
        plan_ledger(manifest, DEMANDS, ceiling_bytes=None, arena_bytes=4096)


def test_a_plan_that_the_machine_has_no_memory_for_is_refused(manifest: Manifest) -> None:
    ledger = plan_ledger(manifest, DEMANDS, ceiling_bytes=None, arena_bytes=None)
    more = ledger.total_bytes - 190 * MIB
    check_available(ledger, DEMANDS, more)
    with pytest.raises(NotEnoughMemoryError, match=r"Give --ram \d+MiB or less"):
        check_available(ledger, DEMANDS, more - 1)
