"""A run settles on the way of reading that takes least, by the time that its own gathers take."""

from collections.abc import Sequence

import numpy as np
import pytest

from tidemill.actors.reader.settle_reads import REST, REST_MAX, SettleReads

GATHERS = 4
BYTES = 1 << 20


def feed(settle: SettleReads, costs: Sequence[float], windows: int, noise: float = 0.0) -> list[int]:
    """The choices of so many windows, where each choice has its seconds a gather."""
    rng = np.random.default_rng(7)
    told = []
    for _ in range(windows):
        told.append(settle.choice)
        for _ in range(GATHERS):
            settle.see(costs[settle.choice] * (1 + noise * rng.standard_normal()), BYTES)
    return told


@pytest.mark.parametrize("best", range(4))
@pytest.mark.parametrize("start", range(4))
def test_it_finds_the_best_way_from_any_start(best: int, start: int) -> None:
    costs = [1.0 + 0.2 * abs(place - best) for place in range(4)]
    told = feed(SettleReads(4, start, gathers=GATHERS), costs, 60)
    assert told[8:].count(best) >= 46


def test_trials_become_rare_where_they_bring_nothing() -> None:
    told = feed(SettleReads(4, 1, gathers=GATHERS), [1.5, 1.0, 1.5, 1.5], 6 * REST_MAX)
    last = told[-2 * REST_MAX :]
    assert 0 < sum(choice != 1 for choice in last) <= 6
    assert sum(choice != 1 for choice in told[: 2 * REST]) <= 4


def test_a_change_of_the_drive_is_followed() -> None:
    settle = SettleReads(4, 1, gathers=GATHERS)
    feed(settle, [1.2, 1.0, 1.2, 1.4], 40)
    assert feed(settle, [2.2, 2.0, 1.5, 1.0], 3 * REST_MAX)[-1] == 3


def test_scatter_does_not_make_it_wander() -> None:
    told = feed(SettleReads(4, 1, gathers=GATHERS), [1.3, 1.0, 1.3, 1.6], 200, noise=0.1)
    assert told.count(1) > 170
