"""What is selected, against the same in numpy."""

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.actors.compute.kernels import selection

F32 = npt.NDArray[np.float32]
COUNT = 301
pytestmark = pytest.mark.slow  # kernels are compiled


def select(x: F32, thresholds: list[float]) -> tuple[npt.NDArray[np.int64], F32]:
    ids = np.full(COUNT, -1, np.int64)
    factors = np.full((len(thresholds), len(x) + 1, COUNT), np.nan, np.float32)
    n = selection.select_channels(x, np.array(thresholds, np.float32), ids, factors)
    return ids[:n], factors[:, : len(x), :n]


@pytest.fixture
def x() -> F32:
    values = np.random.default_rng(1).standard_normal((5, COUNT)).astype(np.float32)
    values[:, 7] = 0.0
    values[0, 9] = -0.5  # the very threshold
    return values


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("thresholds", [[0.5], [1.0, 0.5], [0.5, 2.0, 1.0], [0.0, 1.0, 1.0], [99.0, 99.0, 99.0]])
def test_channels_from_the_smallest_threshold_on_are_listed_and_masked_by_their_own(
    x: F32, batch: int, thresholds: list[float]
) -> None:
    ids, factors = select(x[:batch], thresholds)
    size = np.abs(x[:batch])
    assert np.array_equal(ids, np.flatnonzero((size >= min(thresholds)).any(axis=0)))
    for segment, threshold in enumerate(thresholds):
        expected = np.where(size >= np.float32(threshold), x[:batch], 0)
        assert np.array_equal(factors[segment], expected[:, ids])


@pytest.mark.parametrize("batch", [1, 3])
def test_a_value_that_is_no_number_stays(x: F32, batch: int) -> None:
    x[0, 100] = np.nan
    ids, factors = select(x[:batch], [99.0])
    assert ids.tolist() == [100]
    assert np.isnan(factors[0, 0, 0])


@pytest.mark.parametrize("gelu", [False, True])
def test_gates_are_activated_by_themselves_and_with_ups(x: F32, gelu: bool) -> None:
    wide = x[:, :300].astype(np.float64)
    z = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    expected = wide / 2 * (1 + np.tanh(z)) if gelu else wide / (1 + np.exp(-wide))
    gates = np.ascontiguousarray(x[:, :300])
    hidden = np.zeros((5, 150), np.float32)
    selection.activate_halves(gates, hidden, gelu)
    assert np.allclose(hidden, expected[:, :150] * wide[:, 150:], rtol=2e-6, atol=1e-7)
    selection.activate_gates(gates, gelu)
    assert np.allclose(gates, expected, rtol=1e-6, atol=1e-7)
