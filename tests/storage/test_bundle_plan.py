from pathlib import Path

import pytest

from tests.fakes.layouts import write_blocky_model
from tidemill.storage.bundle_plan import (
    BundlePlan,
    bundle_tables,
    least_bundle_bytes,
    plan_bundles,
    whole_bundle_bytes,
)
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest import Manifest

CHOICES = [LayoutChoice("input-channel", 1), LayoutChoice("input-channel", 3), LayoutChoice("neuron", 1)]


@pytest.fixture(params=CHOICES, ids=str)
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> Manifest:
    return write_blocky_model(tmp_path / "model", request.param)


def spare_slots(plan: BundlePlan) -> list[int]:
    kept = [sum(sum(cached.quotas) for cached in plan.tables if cached.pool == i) for i in range(len(plan.pools))]
    return [pool.slots - kept[i] for i, pool in enumerate(plan.pools)]


def reserves(plan: BundlePlan) -> list[int]:
    return [max(cached.channels for cached in plan.tables if cached.pool == i) for i in range(len(plan.pools))]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_pools_fit_the_budget_hold_the_largest_visit_and_do_not_overlap(manifest: Manifest, share: float) -> None:
    least, whole = least_bundle_bytes(manifest), whole_bundle_bytes(manifest)
    budget = least + int(share * (whole - least))
    plan = plan_bundles(manifest, budget, 8192)
    assert plan.arena_bytes <= budget + 4096 * len(plan.pools)
    assert all(spare >= reserve for spare, reserve in zip(spare_slots(plan), reserves(plan), strict=True))
    at = 8192
    for pool in plan.pools:
        assert pool.offset == at
        at += -(-pool.slots * pool.slot_bytes // 4096) * 4096
    assert {cached.table for cached in plan.tables} == set(bundle_tables(manifest))


def test_everything_stays_where_it_fits(manifest: Manifest) -> None:
    plan = plan_bundles(manifest, whole_bundle_bytes(manifest), 0)
    assert plan.cached_share == 1.0
    assert spare_slots(plan) == [0] * len(plan.pools)


def test_more_memory_keeps_more(manifest: Manifest) -> None:
    least, whole = least_bundle_bytes(manifest), whole_bundle_bytes(manifest)
    shares = [plan_bundles(manifest, least + (whole - least) * i // 8, 0).cached_share for i in range(9)]
    assert shares == sorted(shares)
    assert shares[0] == 0.0


def test_the_first_layer_is_kept_whole_where_there_is_room(manifest: Manifest) -> None:
    plan = plan_bundles(manifest, whole_bundle_bytes(manifest) - 4096, 0)
    if manifest.group > 1:  # three of four layers: more than half of the room
        assert all(max(cached.quotas) < cached.channels for cached in plan.tables)
        return
    for cached in plan.tables:
        is_first = manifest.tables[cached.table].layer == 0
        assert (cached.quotas == (cached.channels,)) == is_first
