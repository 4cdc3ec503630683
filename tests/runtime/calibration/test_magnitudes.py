"""Quantiles out of histograms, against numpy's on the values themselves."""

import numpy as np
import pytest

from tidemill.runtime.calibration.magnitudes import BINS_PER_OCTAVE, LEVELS, MagnitudeHistogram, at_level

X = np.random.default_rng(0).standard_normal((400, 96)).astype(np.float32) ** 3


def quantiles_of(
    *pieces: "np.ndarray[tuple[int, int], np.dtype[np.float32]]",
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    histogram = MagnitudeHistogram()
    for piece in pieces:
        histogram.add(piece)
    return histogram.quantiles()


def test_a_quantile_lies_within_a_bin_of_the_true_one() -> None:
    true = np.quantile(np.abs(X), LEVELS)
    got = quantiles_of(X)
    assert np.abs(got[1:] / true[1:] - 1).max() <= 1 / BINS_PER_OCTAVE


def test_what_lies_below_a_quantile_is_its_share() -> None:
    got = quantiles_of(X)
    below = (np.abs(X)[None] < got[:, None, None]).mean(axis=(1, 2))
    assert np.abs(below - LEVELS).max() < 0.005


def test_pieces_give_what_the_whole_gives_and_order_does_not_matter() -> None:
    assert np.array_equal(quantiles_of(X), quantiles_of(X[300:], X[:300]))


def test_signs_do_not_matter_and_level_zero_is_no_threshold() -> None:
    assert np.array_equal(quantiles_of(X), quantiles_of(-X))
    assert quantiles_of(X)[0] == 0.0


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, np.inf])
def test_values_beyond_the_bins_are_counted_all_the_same(value: float) -> None:
    histogram = MagnitudeHistogram()
    histogram.add(np.array([[value, 1.0]], np.float32))
    assert histogram.counts.sum() == 2


def test_nothing_recorded_is_no_threshold() -> None:
    assert not quantiles_of().any()


def test_levels_in_between_are_linear() -> None:
    rows = np.stack([LEVELS, 2 * LEVELS]).astype(np.float32)
    assert at_level(rows, 0.305) == pytest.approx([0.305, 0.61])
