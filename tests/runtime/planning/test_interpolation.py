import pytest

from tests.fakes.rates import FLASH, RATES, flat_rates
from tidemill.runtime.planning.interpolation import flop_rate, request_seconds, scale_kernels, weight_rate

MIB = 1 << 20
KIB_64 = 1 << 16


def test_a_measured_point_is_met_exactly() -> None:
    for point in FLASH.points:
        seconds = request_seconds(FLASH, [point.request_bytes] * 3, point.depth)
        assert seconds == pytest.approx(3 * point.request_bytes / point.bytes_per_s)


def test_between_two_sizes_time_grows_linearly() -> None:
    small, large = request_seconds(FLASH, [KIB_64], 1), request_seconds(FLASH, [MIB], 1)
    assert request_seconds(FLASH, [(KIB_64 + MIB) // 2], 1) == pytest.approx((small + large) / 2)


def test_between_two_depths_the_rate_grows_with_the_logarithm() -> None:
    assert MIB / request_seconds(FLASH, [MIB], 2) == pytest.approx(1.5e9)


def test_beyond_the_grid_the_nearest_rates_hold() -> None:
    assert request_seconds(FLASH, [4 * MIB], 4) == pytest.approx(4 * MIB / 2e9)
    assert request_seconds(FLASH, [KIB_64 // 4], 1) == pytest.approx(KIB_64 / 4 / 0.5e9)
    assert request_seconds(FLASH, [MIB], 64) == request_seconds(FLASH, [MIB], 4)


def test_a_flat_drive_takes_bytes_over_rate() -> None:
    sizes = [4096, 100_000, MIB, 7 * MIB]
    assert request_seconds(flat_rates(2e9).flash, sizes, 3) == pytest.approx(sum(sizes) / 2e9)


def test_nothing_takes_no_time() -> None:
    assert request_seconds(FLASH, [], 4) == 0.0


def test_batches_between_measured_ones_lie_between_their_rates() -> None:
    assert flop_rate(RATES.kernels, "bf16", 2, 1) == pytest.approx(20e9)  # one operation per byte of bf16
    assert flop_rate(RATES.kernels, "bf16", 2, 8) == pytest.approx(80e9)
    assert flop_rate(RATES.kernels, "bf16", 2, 16) == pytest.approx(90e9)
    assert flop_rate(RATES.kernels, "bf16", 2, 4096) == pytest.approx(120e9)


def test_an_unmeasured_kind_is_as_slow_as_the_slowest() -> None:
    assert weight_rate(RATES.kernels, "bf16") == 20e9
    assert weight_rate(RATES.kernels, "f32") == 10e9


def test_half_the_threads_are_half_as_fast() -> None:
    half = scale_kernels(RATES.kernels, 0.5)
    assert half.bytes_per_s["bf16"] == 10e9
    assert half.flop_per_s[32] == 50e9
