from pathlib import Path

import pytest

from benchmarks import plot
from benchmarks.measure import Point
from benchmarks.report import SummaryRow, summarise
from tests.benchmarks.fake_runs import row_of, run_of


def summary_of(name: str, ceiling: int | None, throttle: int | None, *seconds: float) -> SummaryRow:
    point = Point(ceiling, throttle)
    rows = [row_of(name, run_of(1.0, s) if s else run_of(outcome="failed"), point=point) for s in seconds]
    return summarise(rows, first=rows, floor_s=0.1, model="tiny", model_note="a widened model")


@pytest.mark.slow
def test_a_plot_has_a_panel_for_each_throttle_and_names_everyone(tmp_path: Path) -> None:
    if plot.find_problem():
        pytest.skip(plot.find_problem())
    from matplotlib import rc_context

    summaries = [
        summary_of(name, ceiling, throttle, 0.5, 0.4, 0.0)
        for name in ("tidemill", "peer")
        for ceiling in (500_000_000, 900_000_000, None)
        for throttle in (None, 800_000_000)
    ]
    summaries.append(summary_of("killed", 500_000_000, None, 0.0))
    with rc_context({"svg.fonttype": "none"}):  # text as text
        plot.plot(summaries, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    for text in ("reads unthrottled", "reads 0.8 GB/s", "tidemill", "peer", "floor", "a widened model"):
        assert text in drawn
