import numpy as np
import pytest

from tests.contracts.kernels import KernelContract
from tidemill.actors.compute.kernels import linear
from tidemill.actors.compute.kernels.elements import widen_array


@pytest.mark.slow
class TestBf16(KernelContract):
    element = "bf16"


@pytest.mark.slow
class TestF16(KernelContract):
    element = "f16"


@pytest.mark.slow
class TestF32(KernelContract):
    element = "f32"


@pytest.mark.slow
def test_every_finite_f16_is_widened_exactly_in_kernels() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = bits.view(np.float16).astype(np.float32)
    finite = np.flatnonzero(np.isfinite(values))
    rows = bits[finite].view(np.int16)
    got, first = np.zeros((1, len(finite)), np.float32), np.zeros(1, np.int64)
    linear.row_dot(rows, first, first, first + len(finite), 0, 1, np.ones((1, 1), np.float32), got, 1)
    assert np.array_equal(got[0], values[finite])


def test_rows_are_widened_exactly_outside_kernels() -> None:
    values = np.array([1.5, -0.0, 2.0**-14, -3.25], np.float32)
    assert np.array_equal(widen_array((values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8), "bf16"), values)
    assert np.array_equal(widen_array(values.astype(np.float16).view(np.uint8), "f16"), values)
    assert np.array_equal(widen_array(values.view(np.uint8), "f32"), values)
