"""Tables and plots of figures that nobody measured."""

from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks import plot
from benchmarks.draft_report import as_anatomy_table, as_table, plot_speed
from benchmarks.draft_rows import NONE, DraftSummary, summarise_all
from tests.benchmarks.fake_runs import run_of
from tests.benchmarks.test_draft_rows import SAID, row, run, where


@pytest.fixture
def summaries() -> list[DraftSummary]:
    return summarise_all(
        [
            row(where(NONE), run(0.5)),
            row(where("tidemill planes"), run(0.25, SAID), expected=(1, 2, 9)),
            row(where("llama.cpp mmap f16"), run(5.0, peer=True)),
            row(where("llama.cpp mmap f16", ceiling=None), run(0.2, peer=True)),
            row(where(NONE, text="code"), run_of(outcome="out of memory")),
        ]
    )


def text_of(table: Table, capsys: pytest.CaptureFixture[str]) -> list[str]:
    Console(width=240).print(table)
    return capsys.readouterr().out.splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if name in line).split()


def test_the_table_tells_gains_and_tokens_that_differ(
    summaries: list[DraftSummary], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = text_of(as_table(summaries, "m"), capsys)
    assert " ".join(cells(lines, "tidemill planes")[-10:]) == "to 4.00) 2.00 20.00 0.80 50% 3.00 0 0% NO"
    assert any("out of memory" in line and "code" in line for line in lines)


def test_the_anatomy_has_a_line_for_each_contender_that_says_where_time_goes(
    summaries: list[DraftSummary], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = text_of(as_anatomy_table(summaries), capsys)
    assert " ".join(cells(lines, "tidemill planes")[-11:]) == "3.00 0 750 200 500 450 100 200 200 600 1.25"
    assert not any("llama.cpp" in line for line in lines)


@pytest.mark.slow
def test_a_plot_has_a_panel_for_each_text_with_the_peers_in_it(summaries: list[DraftSummary], tmp_path: Path) -> None:
    if plot.find_problem():
        pytest.skip(plot.find_problem())
    from matplotlib import rc_context

    other = summarise_all([row(where("tidemill planes", text="code"), run(0.25, SAID))])
    with rc_context({"svg.fonttype": "none"}):  # text as text
        plot_speed([*summaries, *other], tmp_path / "drafts.svg", "a model")
    drawn = (tmp_path / "drafts.svg").read_text()
    assert drawn.count(">prose, reads unthrottled<") == drawn.count(">code, reads unthrottled<") == 1
    assert drawn.count(">llama.cpp mmap f16<") == drawn.count(">llama.cpp mmap f16, no ceiling<") == 2
    assert (drawn.count(">tidemill planes<"), drawn.count(">tidemill none<")) == (2, 1)
