"""What benchmarks/draft_tree.py works out of recorded drafts."""

import argparse

import numpy as np
import pytest

from benchmarks.draft_chains import Chain, Chains
from benchmarks.draft_shapes import Passes, Places
from benchmarks.draft_tree import Costs, MissRow, TreeRow, compare, parse_checks, promised, speed, work_out

COSTS = Costs(lap=0.5, branch_lap=0.1, checks={1: 1.0, 3: 2.0}, stream=0.0)


def passes(tokens: list[int], laps: int = 0, branch_laps: int = 0, positions: int = 1) -> Passes:
    count = len(tokens)
    return Passes(np.array(tokens), np.full(count, laps), np.full(count, branch_laps), np.full(count, positions))


@pytest.mark.parametrize(("stream", "seconds"), [(0.0, 1.0 + 0.2 + 1.5), (1.4, 2.7), (4.0, 5.2)])
def test_a_pass_drafts_then_computes_or_streams(stream: float, seconds: float) -> None:
    costs = Costs(lap=0.5, branch_lap=0.1, checks={1: 1.0, 3: 2.0}, stream=stream)
    assert costs.of(passes([1], laps=2, branch_laps=2, positions=2)).tolist() == pytest.approx([seconds])


def test_computing_that_streaming_does_not_hide_takes_its_time() -> None:
    costs = Costs(lap=0.5, branch_lap=0.5, checks={1: 1.0, 3: 2.0}, stream=4.0, exposed=0.5)
    assert costs.waits(np.array([1, 3])).tolist() == [4.5, 5.0]


def test_passes_begin_where_the_one_before_ended() -> None:
    assert speed(passes([1] * 20), COSTS) == 1.0
    # from an even place 2 tokens a pass, from an odd one 1 and then even places
    assert speed(passes([2, 1] * 10), COSTS) == pytest.approx(128 / 68, rel=0.05)


def test_parameters_are_chosen_by_other_kinds_of_text() -> None:
    found, names = np.array([[1.0, 1.0, 4.0], [2.0, 2.0, 3.0]]), ["a@0/1", "a@1/1", "b@0/1"]
    row = compare("leaves", found, np.array([1.0, 1.0, 2.0]), names, 0.0)
    assert row.others == {"a@0/1": 1.0, "a@1/1": 1.0, "b@0/1": 1.5}
    assert row.best == {"a@0/1": 2.0, "a@1/1": 2.0, "b@0/1": 2.0}
    assert (row.mean_others, row.mean_best) == (1.145, 2.0)
    assert row.tokens_per_s == {"a@0/1": 2.0, "a@1/1": 2.0, "b@0/1": 4.0}


def test_there_is_a_row_for_each_stream_and_way() -> None:
    chain = Chain([0, 1], [0.9, 0.4], [[3.0, 4.0, 5.0], [0.1, 4.0, 5.0]])
    recorded = [Chains("m", "a", 0.0, 1, 4, [1, 2] * 6, [chain] * 6)]
    given = argparse.Namespace(lap=0.1, beside=0.15, checks={1: 1.0, 16: 2.0}, streams=[0.0, 2.0], exposed=0.0)
    first, *others = work_out(recorded, given)
    assert first == MissRow("a@0/1", right=1.0, choices=(1.0, 0.0, 0.0), behind=0.0)
    rows = {(row.stream_s, row.way): row for row in others if isinstance(row, TreeRow)}
    ways = {way for _, way in rows}
    assert len(rows) == 2 * len(ways)
    assert {"chain", "gap", "leaves", "branches+", "promise+leaves", "ngram", "ngram+forks"} <= ways
    for (_, way), row in rows.items():
        if way not in ("ngram", "ngram+forks", "promise", "promise+leaves"):
            assert row.mean_best >= 0.999
        assert row.mean_others <= row.mean_best
    assert rows[2.0, "leaves"].mean_best > rows[2.0, "chain"].mean_best  # positions cost nothing while streaming


@pytest.mark.parametrize(("stream", "laps", "positions"), [(0.0, 1, 2), (5.0, 3, 13)])
def test_what_promises_too_little_for_its_time_is_not_drafted(stream: float, laps: int, positions: int) -> None:
    """Of drafts the first is sure and right, the others have a chance of a half. A lap takes 1: at 0.97 tokens a second
    not even the second is worth it; beside a wait of 5 the third is, and leaves cost nothing."""
    gaps = np.zeros((6, 15, 3))
    gaps[:, 0] = 20.0
    ranks = np.full((6, 15), 9)
    ranks[:, 0] = 0
    text = Places(ranks=ranks, sure=np.ones((6, 15)), gaps=gaps, scale=1.0)
    costs = Costs(lap=1.0, branch_lap=1.0, checks={1: 1.0, 16: 2.0}, stream=stream)
    passes = promised(text, costs, 1.0, leaves=True)
    assert passes.laps.tolist() == [laps] * 6
    assert passes.positions.tolist() == [positions] * 6


def test_checks_are_given_by_positions() -> None:
    assert parse_checks("1:0.5,16:2") == {1: 0.5, 16: 2.0}
