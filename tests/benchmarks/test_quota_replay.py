import sys
from pathlib import Path

import pytest

from benchmarks.quota_pools import best_quotas, pool_numbers
from benchmarks.quota_replay import main, replay
from benchmarks.replayed_trace import ReplayedTrace, TableKey, load_trace, write_synthetic_trace
from tidemill.actors.arena.residency.moving_quotas import QuotaRules


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> ReplayedTrace:
    path: Path = tmp_path_factory.mktemp("traces") / "a.arrow"
    write_synthetic_trace(path, tokens=24, seed=1)
    return load_trace(path)


def test_what_moves_within_pools_hits_more_and_less_than_the_best(trace: ReplayedTrace) -> None:
    assert {key: number for key, number in pool_numbers(trace).items() if key.layer == 0} == {
        TableKey(0, "qkv"): 0,
        TableKey(0, "down"): 1,
    }
    equal = {table: count // 2 for table, count in trace.tables.items()}
    fixed, moved = replay(trace, equal, None), replay(trace, equal, QuotaRules(2, 4))
    assert (fixed.moved, fixed.moving_us) == (0, 0)
    assert moved.moved > 0 < moved.moving_us
    assert fixed.hits - 0.01 < moved.hits < replay(trace, best_quotas(trace, equal), None).hits + 0.01


def test_the_best_quotas_hit_more_and_have_the_same_total(trace: ReplayedTrace) -> None:
    equal = {table: count // 4 for table, count in trace.tables.items()}
    best = best_quotas(trace, equal)
    assert sum(best.values()) == sum(equal.values())
    assert replay(trace, best, None).hits >= replay(trace, equal, None).hits - 0.01


def test_the_program_prints_every_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["quota_replay.py", "--smoke", "--sizes", "0.5", "--first", "2,8"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["equal", "moved", "moved", "best"]
