import numpy as np
import pytest

from tidemill.actors.reader.observed_rate import WINDOW_BYTES, WINDOWS, ObservedRate, slow_down

MIB = 1 << 20


def test_nothing_is_known_before_a_window_of_large_reads_is_full() -> None:
    observed = ObservedRate()
    assert not observed.see(1, WINDOW_BYTES - 1, 10**9)
    assert observed.bytes_per_s is None
    assert observed.see(1, 1, 10**9)
    assert observed.bytes_per_s == WINDOW_BYTES


def test_small_reads_say_nothing() -> None:
    observed = ObservedRate()
    assert not observed.see(WINDOW_BYTES // 4096, WINDOW_BYTES, 10**9)
    assert observed.bytes_per_s is None


def test_the_best_of_the_last_windows_counts() -> None:
    observed = ObservedRate()
    for window, seconds in enumerate([1, *[2] * WINDOWS]):
        assert observed.see(32, WINDOW_BYTES, sum([1, *[2] * WINDOWS][: window + 1]) * 10**9)
        expected = WINDOW_BYTES if window < WINDOWS else WINDOW_BYTES / 2
        assert observed.bytes_per_s == expected, (window, seconds)


def test_a_window_is_timed_by_what_was_busy_in_it() -> None:
    observed = ObservedRate()
    observed.see(1, WINDOW_BYTES, 3 * 10**9)
    observed.see(1, WINDOW_BYTES, 4 * 10**9)
    assert observed.bytes_per_s == WINDOW_BYTES


def test_no_request_is_faster_than_the_observed_rate_and_small_ones_stay_as_measured() -> None:
    sizes, seconds = np.array([4096.0, 65536.0, MIB]), np.array([20e-6, 50e-6, 500e-6])
    new_sizes, new_seconds = slow_down(sizes, seconds, 0.8e9)
    assert new_seconds[0] == 20e-6
    assert new_seconds[-1] == pytest.approx(MIB / 0.8e9)
    assert (new_seconds >= new_sizes / 0.8e9 * (1 - 1e-12)).all()
    assert set(sizes) <= set(new_sizes)


def test_a_faster_drive_than_measured_changes_nothing_at_the_measured_sizes() -> None:
    sizes, seconds = np.array([4096.0, MIB]), np.array([20e-6, 500e-6])
    new_sizes, new_seconds = slow_down(sizes, seconds, 1e12)
    np.testing.assert_allclose(np.interp(sizes, new_sizes, new_seconds), seconds)
