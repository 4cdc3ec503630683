from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.planner_accuracy import parse_ceiling
from benchmarks.selected_accuracy import Parts, Sample, fit_constants
from tidemill.runtime.planning.active_run import ActiveRun
from tidemill.runtime.planning.constants import CHOICE_S, DEMAND_RATIO, KERNEL_RATIO


def sample(visits: int, demand_s: float) -> Sample:
    """A run in which a visit stalls for 1 ms and takes 0.2 ms in compute, reads take twice what was predicted, kernels
    three times."""
    run = SimpleNamespace(
        uses=(SimpleNamespace(visits=visits),), prediction=SimpleNamespace(demand_s=demand_s, wait_s=0.0)
    )
    predicted = Parts(0.0, 0.0, 1e-3, 2e-3 + visits * CHOICE_S, 0.0, 0.0)
    measured = Parts(0.0, visits * 1e-3 + 2 * demand_s, 3e-3, 2e-3 + visits * 0.2e-3, 0.0, 0.0)
    return Sample(predicted, measured, cast(ActiveRun, run))


def test_constants_are_what_runs_say_of_them() -> None:
    found = fit_constants([sample(30, 0.1), sample(120, 0.5), sample(120, 0.02)])
    assert found["VISIT_S"] == pytest.approx(1e-3)
    assert found["DEMAND_RATIO"] == pytest.approx(2 * DEMAND_RATIO)
    assert found["CHOICE_S"] == pytest.approx(0.2e-3)
    assert found["KERNEL_RATIO"] == pytest.approx(3 * KERNEL_RATIO)


def test_a_ceiling_is_a_size_or_a_share() -> None:
    assert parse_ceiling("35%") == 0.35
    assert parse_ceiling("1GiB") == 1 << 30
