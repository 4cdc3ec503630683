"""What is cached from the start is asked for a little at a time: a link must hold it beside what a visit wants."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.actors.actor import Send
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.bundle_visits import LOADING_MAX, BundleVisits
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.counters import new_counters
from tidemill.actors.messages import CancelReads, GatherBundles
from tidemill.actors.packing import unpack_ids
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable
from tidemill.storage.manifest_file import load_manifest

TABLES, CHANNELS = 3 * LOADING_MAX, 8


@pytest.fixture
def visits(tmp_path: Path) -> BundleVisits:
    """Every table locked: one gather each."""
    write_tiny_model(tmp_path / "m")
    tables = tuple(CachedTable(table, 0, CHANNELS, (CHANNELS,)) for table in range(TABLES))
    plan = BundlePlan((BundlePool(0, 64, TABLES * CHANNELS),), tables)
    return BundleVisits(BundleStore(plan, ResidencyChoice("lfu")), load_manifest(tmp_path / "m"), new_counters())


def tickets_of(sends: Sequence[Send]) -> list[int]:
    return [send.message.ticket for send in sends if isinstance(send.message, GatherBundles)]


def test_a_new_gather_follows_each_that_is_answered(visits: BundleVisits) -> None:
    out = tickets_of(visits.start())
    seen = list(out)
    while out:
        assert len(out) <= LOADING_MAX
        new = tickets_of(visits.arrived([out.pop(0)], 0))
        out += new
        seen += new
    assert len(set(seen)) == len(seen) == TABLES


def test_a_failed_and_a_cancelled_gather_make_room_too(visits: BundleVisits) -> None:
    first, second, *_ = tickets_of(visits.start())
    assert len(tickets_of(visits.failed(first, 0, "EIO", 0))) == 1
    assert len(tickets_of(visits.cancelled([second], 0))) == 1


def test_giving_up_a_step_cancels_what_was_sent_and_keeps_the_rest(visits: BundleVisits) -> None:
    sent = tickets_of(visits.start())
    (cancel,) = [send.message for send in visits.abandon()]
    assert isinstance(cancel, CancelReads)
    assert unpack_ids(cancel.tickets).tolist() == sent
    out = tickets_of(visits.cancelled(sent, 0))
    seen = list(out)
    while out:
        new = tickets_of(visits.arrived([out.pop(0)], 0))
        out += new
        seen += new
    assert len(sent) + len(seen) == TABLES
