"""The program itself, on a tiny model: every draft takes its turn, tokens are the same, nothing is measured twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.draft_vs_peers import BUILT_IN, read_texts, run_flags
from benchmarks.fixtures.draft_texts import KINDS
from tests.fakes.models import write_tiny_model

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "draft_vs_peers.py"


def measure(directory: Path, *flags: str) -> tuple[int, list[dict[str, object]], str]:
    command = [sys.executable, str(PROGRAM), "--smoke", "--model", str(directory / "tiny"), "--label", "test"]
    command += ["--out", str(directory / "out.jsonl"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.system
def test_every_draft_takes_its_turn_with_the_same_tokens_and_is_measured_once(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    status, rows, text = measure(tmp_path, "--drafts", "none,ngram@2,auto")
    assert status == 0, text
    runs = [row for row in rows if row["kind"] == "run"]
    assert [row["outcome"] for row in runs] == ["ok"] * 3, text
    assert [row["identical"] for row in runs] == [True] * 3
    assert all(len(row["token_ids"]) == 8 for row in runs)  # type: ignore[arg-type]
    assert all(row["anatomy"] for row in runs)
    assert [row["kind"] for row in rows].count("summary") == 3
    assert "tidemill ngram@2" in text
    _, again, _ = measure(tmp_path, "--drafts", "none,ngram@2,auto")
    assert [row["kind"] for row in again] == ["summary"] * 3


@pytest.mark.system
def test_what_it_cannot_compare_is_refused(tmp_path: Path) -> None:
    status, _, text = measure(tmp_path, "--drafts", "planes")
    assert (status, "expected none first" in text) == (2, True)
    status, _, text = measure(tmp_path, "--kinds", "verse")
    assert (status, "expected some of prose,code,repetitive" in text) == (2, True)


def test_a_draft_may_have_a_length_and_a_text_a_temperature() -> None:
    assert run_flags("planes", "prose") == ("--draft", "planes")
    assert run_flags("model:/a/b@4", "code") == ("--draft", "model:/a/b", "--draft-length", "4")
    assert run_flags("auto", "prose@0.7") == ("--draft", "auto", "--temp", "0.7")


def test_texts_are_those_of_the_folder_or_the_one_that_is_built_in(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / f"{kind}.txt").write_text(f"some {kind}")
    assert read_texts(tmp_path, ["code", "prose@0.7"]) == {"code": "some code", "prose@0.7": "some prose"}
    assert list(read_texts(None, KINDS)) == [BUILT_IN]
    with pytest.raises(FileNotFoundError, match=r"verse\.txt"):
        read_texts(tmp_path, ["verse"])
