import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.fakes.stress import FakeSurroundings, pipeline_job, read_job
from tidemill.runtime.stress.arena.job import ArenaJob
from tidemill.runtime.stress.arena.run import run_arena
from tidemill.runtime.stress.html_report import ReportToolsError, check_html, render_html, write_html
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.runtime.stress.predictor.run import run_predictor
from tidemill.runtime.stress.report import StressReport, compare, make_report


def report(names: list[str], *, interrupted: bool = False) -> StressReport:
    return make_report(
        "reader",
        [read_job(name=name) for name in names],
        interrupted=interrupted,
        cpu="a <b> & c",
        comparisons=[compare(names[0], "fio-3.33", "bw_bytes", [2e9], [1e9])],
        notes=["on a drive"],
    )


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.svgs += tag == "svg"
        self.outside += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#")
        ]
        assert tag not in ("script", "link", "iframe", "img")


@pytest.mark.slow
def test_a_page_has_its_plots_inside_and_asks_for_nothing_outside() -> None:
    page = render_html(report(["iodepth=1", "iodepth=2"]))
    links = Links()
    links.feed(page)
    assert links.outside == []
    assert links.svgs == 3  # latency, rate over time, sweep
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "a &lt;b&gt; &amp; c" in page
    assert "2.000" in page
    assert "50.00th=[" in page


@pytest.mark.slow
def test_one_job_has_no_sweep_and_an_interrupted_one_says_so() -> None:
    page = render_html(report(["reader"], interrupted=True))
    assert "Interrupted" in page
    assert page.count("<svg") == 2


@pytest.mark.slow
def test_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    check_html(path)
    write_html(report(["reader"]), path)
    assert path.read_text().rstrip().endswith("</html>")


@pytest.mark.slow
def test_arenas_and_predictors_have_plots_of_their_own() -> None:
    arena = ArenaJob(
        name="a", policies=("lfu", "lru"), sizes=("50%", "90%"), mix="zipf", layers=2, channels=256, bundle_bytes=64,
        tokens=4,
    )  # fmt: skip
    predictor = PredictorJob(name="p", policies=("popularity",), layers=3, channels=32, neurons=32, tokens=3)
    for verb, jobs, title in (
        ("arena", run_arena(arena, FakeSurroundings()), "Hits over the arena"),
        ("predictor", run_predictor(predictor, FakeSurroundings()), "Recall"),
        ("pipeline", [pipeline_job(1e6), pipeline_job(9e6)], "Time of a token"),
    ):
        page = render_html(make_report(verb, jobs, interrupted=False, cpu="z80"))
        assert f"<h2>{title}" in page
        assert page.count("<svg") == 2, verb  # and latency


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "a.html", tmp_path):
        with pytest.raises(ReportToolsError, match="no file that can be written"):
            check_html(path)


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReportToolsError, match=r"pip install 'tidemill\[report\]'"):
        check_html(tmp_path / "a.html")
