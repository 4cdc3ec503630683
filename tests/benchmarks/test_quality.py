"""The table of benchmarks/quality.py, from rows that nothing measured."""

import pytest

from benchmarks.quality import markdown, plan_selections, rows_of
from tests.fakes.models import TINY
from tests.runtime.quality.test_scores import window
from tidemill.actors.compute.selection.operators import OPERATORS
from tidemill.runtime.quality.scores import ScoreSums


def test_every_policy_is_measured_at_every_sparsity_and_every_input_alone() -> None:
    planned = plan_selections([0.1, 0.5], with_predictors=True)
    assert [group for group, _ in planned].count("single") == 4
    for group in ("topk greedy", "topk uniform", "gate", "neuron"):
        assert [s.sparsity for g, s in planned if g == group] == [0.1, 0.5]
    alone = [operator for group, s in planned if group == "single" for operator in s.operators]
    assert tuple(alone) == OPERATORS
    assert "neuron" not in dict(plan_selections([0.1], with_predictors=False))


def test_the_table_has_a_row_for_each_sparsity_and_a_column_for_each_policy() -> None:
    planned = plan_selections([0.1, 0.5], with_predictors=False)
    sums = ScoreSums(TINY, 1 + len(planned))
    scores = [[10, 20.0 + i, 0.5 * i, 10 - i / 2] for i in range(1 + len(planned))]
    sums.add(window(scores, [[1.0] * 7 for _ in scores]))
    table = markdown(rows_of([group for group, _ in planned], [s for _, s in planned], sums))
    lines = table.splitlines()
    assert lines[2] == "| sparsity | topk greedy | topk uniform | gate |"
    assert lines[4].startswith("| 10% | 8.17 · 0.050 · 95% · 100% |")
    assert [line.split(" |")[0] for line in lines[4:6]] == ["| 10%", "| 50%"]
    assert sum("topk 50% " in line for line in lines) == 4


def test_a_plot_needs_only_the_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.quality_plot import plot_quality

    planned = plan_selections([0.1], with_predictors=False)
    sums = ScoreSums(TINY, 1 + len(planned))
    scores = [[10, 20.0, 0.0, 10.0] for _ in range(1 + len(planned))]
    sums.add(window(scores, [[1.0] * 7 for _ in scores]))
    path = tmp_path_factory.mktemp("plot") / "quality.svg"
    plot_quality(rows_of([group for group, _ in planned], [s for _, s in planned], sums), path, "tiny")
    assert path.read_bytes().startswith(b"<?xml")
