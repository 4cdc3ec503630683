import sys
from pathlib import Path

import pytest

from benchmarks.moving_quotas import MovingQuotas, best_quotas, pools_of
from benchmarks.quota_replay import main, replay
from benchmarks.replayed_trace import ReplayedTrace, load_trace, write_synthetic_trace


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> ReplayedTrace:
    path: Path = tmp_path_factory.mktemp("traces") / "a.arrow"
    write_synthetic_trace(path, tokens=24, seed=1)
    return load_trace(path)


def test_quotas_move_within_their_pool_and_never_beyond_a_table(trace: ReplayedTrace) -> None:
    equal = {table: count // 4 for table, count in trace.tables.items()}
    moving = MovingQuotas(trace, equal, step=0.25)
    busy, *idle = next(pool for pool in pools_of(trace) if pool[0].input == "down")
    moving.see(busy, trace.visits_of(busy)[0])  # half of its bundles, of which it may keep half
    for _ in range(9):
        assert set(moving.move()) <= {busy, *idle}
        assert sum(moving.quotas.values()) == sum(equal.values())
        assert all(0 <= quota <= trace.tables[table] for table, quota in moving.quotas.items())
    assert moving.quotas[busy] == trace.tables[busy] // 2
    assert sorted(moving.quotas[table] for table in idle) == [0, trace.tables[busy] // 4]


def test_the_best_quotas_hit_more_and_have_the_same_total(trace: ReplayedTrace) -> None:
    equal = {table: count // 4 for table, count in trace.tables.items()}
    best = best_quotas(trace, equal)
    assert sum(best.values()) == sum(equal.values())
    assert replay(trace, best, None, 1)[0] >= replay(trace, equal, None, 1)[0] - 0.01


def test_the_program_prints_every_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["quota_replay.py", "--smoke", "--sizes", "0.5", "--every", "8"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["equal", "moved", "best"]
