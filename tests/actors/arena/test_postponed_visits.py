"""A visit that lacks slots, as reads that were given up still go into them, begins when those are answered."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.models import write_tiny_model
from tidemill.actors.actor import Send
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.bundle_visits import BundleVisits
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.counters import new_counters
from tidemill.actors.messages import BundlesPlaced, CancelReads, GatherBundles, PreloadBundles, VisitBundles
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable
from tidemill.storage.manifest_file import load_manifest

TABLE, CHANNELS, SLOTS = 3, 8, 10  # one visit to all channels fits, two don't
ALL = pack_ids(np.arange(CHANNELS))


@pytest.fixture
def visits(tmp_path: Path) -> BundleVisits:
    manifest_of = write_tiny_model(tmp_path / "m")
    assert manifest_of.tables[TABLE].layer <= 3
    plan = BundlePlan((BundlePool(0, 64, SLOTS),), (CachedTable(TABLE, 0, CHANNELS, (0,)),))
    return BundleVisits(BundleStore(plan, ResidencyChoice("none")), load_manifest(tmp_path / "m"), new_counters())


def visit(visits: BundleVisits, request: int) -> list[Send]:
    layer = visits._manifest.tables[TABLE].layer
    return visits.visit(VisitBundles(request, request, TABLE, layer, ALL, True), 0)


def gathers(sends: Sequence[Send]) -> list[GatherBundles]:
    return [send.message for send in sends if isinstance(send.message, GatherBundles)]


@pytest.fixture
def given_up(visits: BundleVisits) -> int:
    """The ticket of a visit's read that is under way when its step is given up."""
    (gather,) = gathers(visit(visits, 1))
    (cancel,) = visits.abandon()
    assert isinstance(cancel.message, CancelReads)
    assert unpack_ids(cancel.message.tickets).tolist() == [gather.ticket]
    assert visit(visits, 2) == [], "the slots are still being read into"
    visits.validate()
    return gather.ticket


@pytest.mark.parametrize("answer", ["arrived", "cancelled", "failed"])
def test_it_begins_with_the_answer_of_the_read_before_whatever_that_is(
    visits: BundleVisits, given_up: int, answer: str
) -> None:
    answers: dict[str, Callable[[], list[Send]]] = {
        "arrived": lambda: visits.arrived([given_up], 0),
        "cancelled": lambda: visits.cancelled([given_up], 0),
        "failed": lambda: visits.failed(given_up, 2, "EIO", 0),
    }
    sends = answers[answer]()
    (again,) = gathers(sends)
    assert len(sends) == 1
    assert unpack_ids(again.bundles).tolist() == list(range(CHANNELS))
    (placed,) = visits.arrived([again.ticket], 0)
    assert isinstance(placed.message, BundlesPlaced)
    assert placed.message.request == 2
    assert placed.message.slots == again.slots
    visits.validate()


def test_nothing_is_read_ahead_meanwhile(visits: BundleVisits, given_up: int) -> None:
    assert visits.preload(PreloadBundles(2, TABLE, ALL, True), 0) == []
    assert len(gathers(visits.cancelled([given_up], 0))) == 1


def test_a_step_that_is_given_up_takes_it_along(visits: BundleVisits, given_up: int) -> None:
    visits.abandon()
    assert visits.cancelled([given_up], 0) == []
    assert len(gathers(visit(visits, 3))) == 1
