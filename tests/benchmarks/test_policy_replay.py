import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.policy_replay import POLICIES, main
from benchmarks.replayed_trace import TableKey, load_trace, write_synthetic_trace

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "policy_replay.py"


@pytest.mark.system
def test_the_program_runs_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--smoke", "--sizes", "0.5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(POLICIES)


def rows_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *flags: str
) -> dict[tuple[str, float], dict[str, float]]:
    monkeypatch.setattr(sys, "argv", ["policy_replay.py", "--json", *flags])
    main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {(row["policy"], row["cache_share"]): row for row in rows}


def test_the_figures_of_a_replay_hang_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(capsys, monkeypatch, "--smoke", "--sizes", "0.25,0.75", "--window", "3")
    assert len(rows) == 2 * len(POLICIES)
    for share in (0.25, 0.75):
        best = rows["belady", share]["hit_rate"]
        for policy in ("lfu", "window of 3", "lru"):
            assert 0 < rows[policy, share]["hit_rate"] < best
        assert rows["none", share]["on_demand_share"] == 1
    assert all(row["hit_rate"] + row["on_demand_share"] == pytest.approx(1) for row in rows.values())
    assert all(row["below_demand"] == (share < 0.5) for (_, share), row in rows.items())


def test_one_lru_over_all_tables_hits_nothing_below_one_tokens_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(capsys, monkeypatch, "--smoke", "--sizes", "0.4,0.75", "--policies", "lru,global-lru")
    assert rows["global-lru", 0.4]["hit_rate"] == 0 < rows["lru", 0.4]["hit_rate"]
    assert rows["global-lru", 0.75]["hit_rate"] > 0.5


def test_preloading_moves_misses_and_leaves_hits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--smoke", "--sizes", "0.5", "--policies", "lfu")
    plain = rows_of(capsys, monkeypatch, *flags)["lfu", 0.5]
    preloading = rows_of(capsys, monkeypatch, *flags, "--preload", "layer")["lfu", 0.5]
    assert preloading["hit_rate_by_input"] == plain["hit_rate_by_input"]
    assert preloading["on_demand_share"] < plain["on_demand_share"]
    moved = plain["on_demand_share"] - preloading["on_demand_share"]
    assert preloading["preload_hit_share"] == pytest.approx(moved)
    assert preloading["wasted_share"] > 0


def test_the_hot_set_takes_its_popularity_from_another_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic_trace(tmp_path / "a.arrow", tokens=8, seed=1)
    write_synthetic_trace(tmp_path / "b.arrow", tokens=8, seed=2)
    flags = (str(tmp_path / "a.arrow"), "--sizes", "0.5", "--policies", "lfu,hot-set")
    assert set(rows_of(capsys, monkeypatch, *flags)) == {("lfu", 0.5)}
    same = rows_of(capsys, monkeypatch, *flags, "--calibration", str(tmp_path / "a.arrow"))
    other = rows_of(capsys, monkeypatch, *flags, "--calibration", str(tmp_path / "b.arrow"))
    assert same["hot-set", 0.5]["hit_rate"] > other["hot-set", 0.5]["hit_rate"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--smoke", "--policies", "fifo"], "unknown policies fifo"), ([], "name a trace"), (["missing"], "not a file")],
)
def test_bad_arguments_are_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["policy_replay.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert message in capsys.readouterr().err + str(stopped.value)


def test_a_loaded_trace_knows_its_tables(tmp_path: Path) -> None:
    write_synthetic_trace(tmp_path / "a.arrow", tokens=4, seed=1)
    trace = load_trace(tmp_path / "a.arrow")
    assert (trace.tokens, len(trace.visits), len(trace.tables)) == (4, 24, 6)
    assert trace.active == 4 * 3 * (32 + 48)
    table = TableKey(2, "down")
    assert len(trace.visits_of(table)) == 4
    assert trace.popularity()[table].sum() == 4 * 48
