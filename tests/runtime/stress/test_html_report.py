import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.fakes.stress import read_job
from tidemill.runtime.stress.html_report import ReportToolsError, check_html, render_html, write_html
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


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "a.html", tmp_path):
        with pytest.raises(ReportToolsError, match="no file that can be written"):
            check_html(path)


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReportToolsError, match=r"pip install 'tidemill\[report\]'"):
        check_html(tmp_path / "a.html")
