"""Rows and summaries of runs that nothing measured."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.contenders import Task
from benchmarks.draft_rows import (
    NONE,
    DraftDecoded,
    DraftRow,
    DraftSaid,
    DraftTidemill,
    DraftWhere,
    KindCounts,
    draft_row,
    summarise_all,
)
from benchmarks.measure import Point, Run
from tests.benchmarks.fake_runs import run_of

SAID = DraftSaid(
    kind="planes",
    passes=10,
    drafted=40,
    accepted=20,
    acceptance=0.5,
    tokens_per_pass=3.0,
    by_kind={"planes": KindCounts(10, 40, 20)},
    draft_s_per_pass=0.2,
    check_s_per_pass=0.5,
    stall_s_per_pass=0.1,
    compute_s_per_pass=0.45,
    bytes_per_pass=600.0,
)


def where(contender: str, number: int = 0, ceiling: int | None = 500, text: str = "prose") -> DraftWhere:
    return DraftWhere(
        label="a",
        model="m",
        text=text,
        contender=contender,
        flags=(),
        ceiling_bytes=ceiling,
        throttle_bytes_per_s=None,
        tokens=3,
        prompt_tokens=8,
        round=number,
    )


def run(seconds: float, said: DraftSaid | None = None, *, drive: float | None = 1000.0, peer: bool = False) -> Run:
    """Reads of 200 bytes a token keep the drive busy at 2000 bytes/s."""
    made = run_of(1.0, seconds, seconds, drive=drive)
    assert made.decoded is not None
    if peer:
        return made
    means = {"mean_compute_s": 0.1, "mean_stall_s": 0.05, "mean_bytes": 200.0}
    own = {**vars(made.decoded), "flash_bytes_per_s": 2000.0, **means}
    return replace(made, decoded=DraftDecoded(**own, draft=said))


def row(place: DraftWhere, made: Run, expected: tuple[int, ...] = (1, 2, 3)) -> DraftRow:
    return draft_row(place, Point(place.ceiling_bytes, None), 1000, made, expected)


def test_a_pass_is_told_part_by_part_beside_its_floor() -> None:
    found = row(where("tidemill planes"), run(0.25, SAID)).anatomy
    assert found is not None
    assert found.pass_s == 0.75  # 3 tokens
    assert (found.draft_s, found.check_s, found.compute_s, found.stall_s) == (0.2, 0.5, 0.45, 0.1)
    assert found.rest_s == pytest.approx(0.2)
    assert found.overlap_s == pytest.approx(0.2)  # 600 bytes at 2000 a second, of which 0.1 s were waited for
    assert found.floor_s == 0.6  # 600 bytes at the 1000 a second that the drive has; kernels take 0.45
    assert found.times_floor == pytest.approx(1.25)


def test_computing_is_the_floor_where_it_takes_longer_than_reading() -> None:
    found = row(where("tidemill planes"), run(0.25, SAID, drive=6000.0)).anatomy
    assert found is not None
    assert found.floor_s == 0.45


def test_without_drafts_a_pass_is_a_token() -> None:
    found = row(where(NONE), run(0.3)).anatomy
    assert found is not None
    assert (found.tokens, found.pass_s, found.draft_s, found.check_s) == (1, 0.3, 0, 0.3)
    assert (found.compute_s, found.stall_s, found.read_bytes, found.floor_s) == (0.1, 0.05, 200, 0.2)


def test_what_was_not_measured_is_no_floor() -> None:
    found = row(where(NONE), run(0.3, drive=None)).anatomy
    assert found is not None
    assert (found.floor_s, found.times_floor) == (None, None)


def test_tokens_have_to_be_those_without_drafts_and_a_peers_are_only_counted() -> None:
    assert row(where("tidemill auto"), run(0.25, SAID)).identical is True
    other = row(where("tidemill auto"), run(0.25, SAID), expected=(1, 2, 9))
    assert (other.identical, other.equal_tokens) == (False, 2)
    shorter = row(where("tidemill auto"), run(0.25, SAID), expected=(1, 2))  # of a run that was asked for two
    assert shorter.identical is True
    asked_for_four = msgspec.structs.replace(where("tidemill auto"), tokens=4)
    early_end = row(asked_for_four, run(0.25, SAID), expected=(1, 2, 3, 4))
    assert (early_end.identical, early_end.equal_tokens) == (False, 3)
    peer = row(where("llama.cpp mmap f16"), run(0.25, peer=True), expected=(1, 2, 9))
    assert (peer.identical, peer.equal_tokens, peer.anatomy) == (None, 2, None)


def test_gains_are_between_runs_of_a_round_at_a_point_and_text() -> None:
    rows = [
        row(where(NONE), run(0.6)),
        row(where("llama.cpp mmap f16"), run(4.0, peer=True)),
        row(where("tidemill auto"), run(0.2, SAID)),
        row(where(NONE, 1), run(0.9)),
        row(where("llama.cpp mmap f16", 1), run(2.0, peer=True)),
        row(where("tidemill auto", 1), run(0.1, SAID), expected=(1, 2, 9)),
        row(where(NONE, text="code"), run(7.0)),
        row(where("llama.cpp mmap f16", ceiling=None), run(0.3, peer=True)),
    ]
    found = {(s.where.contender, s.where.text, s.where.ceiling_bytes): s for s in summarise_all(rows)}
    auto = found["tidemill auto", "prose", 500]
    assert auto.gain == pytest.approx((3, 6, 9))
    assert auto.times_mmap == pytest.approx((20, 20, 20))
    assert auto.times_memory == pytest.approx(2)
    assert (auto.identical, auto.medians["acceptance"], auto.medians["tokens"]) == (False, 0.5, 3)
    code = found[NONE, "code", 500]  # a peer is measured on one text
    assert code.gain == pytest.approx((1, 1, 1))
    assert code.times_mmap == pytest.approx((4 / 7,) * 3)
    assert found["llama.cpp mmap f16", "prose", 500].identical is None


def test_a_run_that_failed_has_a_row_and_no_part_in_medians() -> None:
    failed = row(where("tidemill auto"), run_of(outcome="out of memory"))
    assert (failed.outcome, failed.s_per_token, failed.anatomy) == ("out of memory", None, None)
    (summary,) = summarise_all([failed])
    assert (summary.s_per_token, summary.gain, summary.identical) == (None, None, None)


def test_rows_survive_the_file_that_they_are_kept_in() -> None:
    made = row(where("tidemill planes"), run(0.25, SAID))
    assert msgspec.json.decode(msgspec.json.encode(made), type=DraftRow) == made


def printed(directory: Path, draft: object) -> DraftDecoded:
    """What tidemill says in JSON and CSV, read."""
    said = dict.fromkeys(("bytes_read_per_token", "flash_bytes_per_s", "stall_s_per_token", "compute_s_per_token"))
    said |= {"prompt_tokens": 8, "ttft_s": 1.0, "management_s_per_token": None}
    lines = ["# about", "index,token_id,elapsed_ns,compute_ns,stall_ns,flash_bytes"]
    lines += [f"{i},{i + 5},{ms}000000,{ms // 2}000000,0,{ms}" for i, ms in enumerate((900, 400, 0, 200))]
    (directory / "tokens.csv").write_text("\n".join([*lines, "# summary"]) + "\n")
    task = Task(directory / "p.txt", 4, 8, 1, None, directory)
    read = DraftTidemill("python", directory).read(json.dumps({**said, "draft": draft}), task)
    assert isinstance(read, DraftDecoded)
    return read


def test_means_are_over_the_tokens_after_the_first_as_a_pass_gives_several_at_once(tmp_path: Path) -> None:
    read = printed(tmp_path, msgspec.to_builtins(SAID))
    assert read.draft == SAID
    assert (read.token_ids, read.token_s) == ((5, 6, 7, 8), (1.0, 0.4, 0.0, 0.2))
    assert (read.mean_compute_s, read.mean_stall_s, read.mean_bytes) == (0.1, 0.0, 200.0)
    assert printed(tmp_path, None).draft is None


def test_a_summary_of_another_shape_is_a_failure_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`draft` object is another one: .*passes"):
        printed(tmp_path, {"kind": "planes"})
