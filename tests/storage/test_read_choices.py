"""Ways to read the same bundles: from few large reads to many small ones."""

import numpy as np
import pytest

from tidemill.storage.read_choices import AS_MEASURED, DEARER, ReadChoices
from tidemill.storage.read_plan import ReadPlan, ReadPlanner, RequestTimes

BUNDLE = 7168
SIZES = np.array([4096.0, 1 << 20])
SECONDS = 16.9e-6 + SIZES * 0.71e-9
MOST = 512 << 10
OFFSETS = np.sort(np.random.default_rng(1).choice(2000, 600, replace=False)).astype(np.int64) * BUNDLE
SHARDS = np.zeros(len(OFFSETS), np.int64)


def plans() -> list[ReadPlan]:
    choices = ReadChoices(SIZES, SECONDS, max_bytes=MOST)
    return [choices.plan(choice, SHARDS, OFFSETS, BUNDLE) for choice in range(len(DEARER))]


def test_dearer_bytes_are_more_and_smaller_requests_for_the_same_bundles() -> None:
    found = plans()
    assert [plan.useful_bytes for plan in found] == [len(OFFSETS) * BUNDLE] * len(DEARER)
    assert np.all(np.diff([plan.requests for plan in found]) > 0)
    assert np.all(np.diff([plan.read_bytes for plan in found]) < 0)


def test_one_choice_goes_by_the_times_as_measured() -> None:
    alone = ReadPlanner(RequestTimes(SIZES, SECONDS), max_bytes=MOST).plan(SHARDS, OFFSETS, BUNDLE)
    measured = plans()[AS_MEASURED]
    assert np.array_equal(measured.offsets, alone.offsets)
    assert np.array_equal(measured.sizes, alone.sizes)


def test_some_choice_is_near_the_best_under_a_throttle_of_bytes() -> None:
    """Requests wait for the drive beside one another while bytes wait for the throttle."""
    times = RequestTimes(SIZES, SECONDS)

    def seconds(plan: ReadPlan) -> float:
        return max(float(times.of(plan.sizes).sum()), plan.read_bytes / 0.8e9)

    found = plans()
    bare = ReadPlanner(RequestTimes(SIZES, SIZES * 1e-9), max_bytes=MOST).plan(SHARDS, OFFSETS, BUNDLE)
    assert min(map(seconds, found)) < 0.9 * seconds(found[AS_MEASURED])
    assert min(map(seconds, found)) <= seconds(bare)


def test_a_request_that_costs_nothing_leaves_every_choice_valid() -> None:
    choices = ReadChoices(np.array([4096.0]), np.array([1e-9]), max_bytes=MOST)
    for choice in range(len(DEARER)):
        assert choices.plan(choice, SHARDS, OFFSETS, BUNDLE).useful_bytes == len(OFFSETS) * BUNDLE


def test_times_that_cannot_be_interpolated_are_refused() -> None:
    with pytest.raises(ValueError, match="request times of 2 sizes"):
        ReadChoices(SIZES, np.array([1e-6, 0.0]), max_bytes=MOST)
