from tidemill.runtime.stress.rate_series import SLICE_NS, RateSample, RateSeries, add_series, stats_of


def test_a_sample_is_of_its_own_slice_alone() -> None:
    series = RateSeries(1000)
    assert series.see(1000 + SLICE_NS // 2, 10, 1) is None
    first = series.see(1000 + SLICE_NS, 100, 4)
    second = series.see(1000 + 3 * SLICE_NS, 300, 4)
    assert first == RateSample(250, 400.0, 16.0)
    assert second == RateSample(750, 400.0, 0.0)
    assert series.samples == [first, second]


def test_jobs_add_up_as_long_as_all_run() -> None:
    one = [RateSample(250, 1.0, 2.0), RateSample(500, 3.0, 4.0)]
    other = [RateSample(251, 10.0, 20.0)]
    assert add_series([one, other]) == [RateSample(251, 11.0, 22.0)]


def test_stats_of_nothing_and_of_one() -> None:
    assert stats_of([]).samples == 0
    assert stats_of([2.0]).deviation == 0.0
    assert (stats_of([1.0, 3.0]).mean, stats_of([1.0, 3.0]).deviation) == (2.0, 2.0**0.5)
