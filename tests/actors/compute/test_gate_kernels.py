"""Activated gates, against the same in float64."""

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.actors.compute.kernels import gates

pytestmark = pytest.mark.slow  # kernels are compiled


@pytest.fixture
def x() -> npt.NDArray[np.float32]:
    values = np.random.default_rng(1).standard_normal((5, 301)).astype(np.float32)
    values[:, 7] = 0.0
    return values


@pytest.mark.parametrize("gelu", [False, True])
def test_gates_are_activated_by_themselves_and_with_ups(x: npt.NDArray[np.float32], gelu: bool) -> None:
    wide = x[:, :300].astype(np.float64)
    z = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    expected = wide / 2 * (1 + np.tanh(z)) if gelu else wide / (1 + np.exp(-wide))
    wide_gates = np.ascontiguousarray(x[:, :300])
    hidden = np.zeros((5, 150), np.float32)
    gates.activate_halves(wide_gates, hidden, gelu)
    assert np.allclose(hidden, expected[:, :150] * wide[:, 150:], rtol=2e-6, atol=1e-7)
    gates.activate_gates(wide_gates, gelu)
    assert np.allclose(wide_gates, expected, rtol=1e-6, atol=1e-7)
