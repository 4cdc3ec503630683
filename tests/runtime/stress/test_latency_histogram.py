import numpy as np
import numpy.typing as npt
import pytest

from tidemill.runtime.stress.latency_histogram import LatencyHistogram, buckets_of, values_of


def nanoseconds(count: int, seed: int) -> npt.NDArray[np.int64]:
    """From 0 to some minutes, about as many of each size; with the edges of buckets."""
    random = (2 ** np.random.default_rng(seed).uniform(0, 39, count)).astype(np.int64)
    edges = 1 << np.arange(39)
    return np.concatenate([[0], edges - 1, edges, edges + 1, random])


def test_the_middle_of_a_bucket_is_within_1_percent_of_what_is_in_it() -> None:
    values = nanoseconds(10_000, seed=1)
    middles = values_of(buckets_of(values))
    assert (np.abs(middles - values) <= values / 128).all()


def test_buckets_are_those_of_fio() -> None:
    """plat_val_to_idx of fio's stat.c with 6 bits, worked out by hand."""
    assert buckets_of(np.array([0, 1, 127, 128, 129, 130, 255, 256, 1000, 1 << 20])).tolist() == [
        0, 1, 127, 128, 128, 129, 191, 192, 317, 960,
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [0, 1, 150, 10_000])
def test_parts_that_are_merged_say_what_the_whole_says(cut: int) -> None:
    values = nanoseconds(200, seed=cut)
    whole, parts = LatencyHistogram(), LatencyHistogram()
    whole.add(values)
    for part in (values[:cut], values[cut:]):
        other = LatencyHistogram()
        other.add(part)
        parts.merge(other)
    mine, other_stats = whole.stats(), parts.stats()
    assert (mine.min, mine.max, mine.N, mine.percentile, mine.bins) == (
        other_stats.min, other_stats.max, other_stats.N, other_stats.percentile, other_stats.bins,
    )  # fmt: skip
    # sums of squares of up to 2^39 lose digits by cancelling
    assert other_stats.mean == pytest.approx(mine.mean, rel=1e-9, abs=1e-6)
    assert other_stats.stddev == pytest.approx(mine.stddev, rel=1e-6, abs=1e-3)


def test_percentiles_and_moments_are_those_of_the_values() -> None:
    values = np.random.default_rng(1).lognormal(11, 1, 20_000).astype(np.int64)
    histogram = LatencyHistogram()
    histogram.add(values)
    stats = histogram.stats()
    assert (stats.min, stats.max, stats.N) == (values.min(), values.max(), 20_000)
    assert stats.mean == pytest.approx(values.mean())
    assert stats.stddev == pytest.approx(values.std(ddof=1))
    for share in (1.0, 50.0, 99.0, 99.9):
        exact = np.percentile(values, share, method="inverted_cdf")
        assert stats.percentile[f"{share:.6f}"] == pytest.approx(exact, rel=1 / 128)


def test_stats_give_their_histogram_back() -> None:
    histogram = LatencyHistogram()
    histogram.add([5, 1000, 1000, 123_456_789])
    again = LatencyHistogram.of_stats(histogram.stats())
    assert again.stats() == histogram.stats()


def test_nothing_counted_is_zeros_without_percentiles() -> None:
    stats = LatencyHistogram().stats()
    assert (stats.N, stats.min, stats.max, stats.mean, stats.stddev) == (0, 0, 0, 0.0, 0.0)
    assert stats.percentile == {}
    assert LatencyHistogram().percentile(50) == 0
