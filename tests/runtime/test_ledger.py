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
