import io

import pytest
from rich.console import Console

from benchmarks.measure import Point
from benchmarks.report import SummaryRow, as_parts_table, as_table, count_equal, summarise
from tests.benchmarks.fake_runs import row_of, run_of

OURS = [row_of("tidemill", run_of(9.0, seconds, seconds, 50.0), number=i) for i, seconds in enumerate([2.0, 1.0, 4.0])]


def text_of(*summaries: SummaryRow) -> str:
    file = io.StringIO()
    Console(width=200, file=file).print(as_table(summaries))
    return file.getvalue()


def test_a_rounds_figures_are_over_the_tokens_after_the_first() -> None:
    assert OURS[0].decode_s_per_token == 2.0
    assert OURS[0].decode_mean_s_per_token == pytest.approx(18.0)
    assert (OURS[0].ttft_s, OURS[0].ceiling_share, OURS[0].tokens) == (9.0, 0.5, 3)


def test_a_summary_holds_the_median_and_the_spread_of_its_rounds() -> None:
    peer = [row_of("peer", run_of(9.0, 6.0, token_ids=(1, 2, 9)))]
    ours = summarise(OURS, first=OURS, floor_s=0.5, model="m", model_note="")
    theirs = summarise(peer, first=OURS, floor_s=0.5, model="m", model_note="")
    assert (ours.min_s, ours.decode_s_per_token, ours.max_s) == (1.0, 2.0, 4.0)
    assert (ours.times_first, ours.times_floor) == (1.0, 4.0)
    assert (theirs.times_first, theirs.times_floor) == (3.0, 12.0)
    assert (ours.equal_tokens, theirs.equal_tokens) == (3, 2)
    assert ours.not_imposed == ("a throttle",)


def test_a_contender_that_was_killed_is_in_the_table() -> None:
    rows = [row_of("peer", run_of(outcome="out of memory"))]
    summary = summarise(rows, first=OURS, floor_s=0.5, model="m", model_note="")
    assert summary.decode_s_per_token is summary.times_first is summary.times_floor is None
    assert summary.outcomes == ("out of memory",)
    assert "out of memory" in text_of(summary)


def test_rounds_that_ended_badly_are_counted_and_left_out_of_the_median() -> None:
    rows = [*OURS, row_of("tidemill", run_of(outcome="timed out"), number=3)]
    summary = summarise(rows, first=rows, floor_s=0.5, model="m", model_note="")
    assert summary.decode_s_per_token == 2.0
    assert "1 bad" in text_of(summary)


def test_a_runs_own_floor_is_what_its_bytes_take_of_the_drive_that_it_had() -> None:
    rates = (100.0, 200.0, 400.0)  # 50 bytes take 0.5, 0.25, 0.125 s
    rows = [row_of("tidemill", run_of(9.0, 1.0, read=50.0, drive=rate), number=i) for i, rate in enumerate(rates)]
    summary = summarise(rows, first=rows, floor_s=0.1, model="m", model_note="")
    assert summary.times_own_floor == (2.0, 4.0, 8.0)
    assert (summary.io_s_per_token, summary.stall_s_per_token) == (0.5, 0.3)


def test_a_floor_is_never_below_what_the_memory_takes() -> None:
    row = row_of("tidemill", run_of(9.0, 1.0, read=50.0, drive=1e9))
    assert row.own_floor_s_per_token == 0.001


def test_a_throttle_is_the_drives_rate() -> None:
    point = Point(ceiling_bytes=500, throttle_bytes_per_s=100)
    assert row_of("tidemill", run_of(9.0, 1.0, read=50.0), point=point).own_floor_s_per_token == 0.5


def test_the_table_of_parts_has_those_who_say_where_their_time_goes() -> None:
    ours, peer = row_of("tidemill", run_of(9.0, 1.0, read=50.0, drive=100.0)), row_of("peer", run_of(9.0, 1.0))
    summaries = [summarise([row], first=[ours], floor_s=0.1, model="m", model_note="") for row in (ours, peer)]
    file = io.StringIO()
    Console(width=200, file=file).print(as_parts_table(summaries))
    assert "2.00 (2.00 to 2.00)" in file.getvalue()
    assert "peer" not in file.getvalue()


def test_the_table_says_what_kind_of_model_it_is_and_where_it_ran() -> None:
    point = Point(ceiling_bytes=None, throttle_bytes_per_s=800_000_000)
    rows = [row_of("tidemill", run_of(1.0, 0.25), point=point)]
    text = text_of(summarise(rows, first=rows, floor_s=0.1, model="m", model_note="a widened model"))
    assert "m: a widened model" in text
    assert "none     0.8 GB/s  tidemill   4.00" in text


@pytest.mark.parametrize(
    ("got", "expected", "count"),
    [((1, 2, 3), (1, 2, 3), 3), ((1, 9, 3), (1, 2, 3), 1), ((1, 2), (1, 2, 3), 2), ((), (1,), 0)],
)
def test_equal_tokens_are_counted_up_to_the_first_that_differs(
    got: tuple[int, ...], expected: tuple[int, ...], count: int
) -> None:
    assert count_equal(got, expected) == count
