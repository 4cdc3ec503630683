import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fixtures.recorded_run import write_recorded_run
from benchmarks.prediction_recall import factories, measure, needed_pairs
from benchmarks.prediction_replay import Replay, Row, Tally
from benchmarks.recorded_trace import load_activations, load_recorded_trace
from tidemill.storage.errors import FormatError
from tidemill.storage.trace.header import TraceHeader
from tidemill.storage.trace.trace_writer import TraceWriter

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "prediction_recall.py"
LAYERS, POSITIONS = 6, 6
DISTANCES, GROUPS = (1, 3), (1, 2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    paths = write_recorded_run(tmp_path_factory.mktemp("run"), layers=LAYERS, positions=POSITIONS)
    trace, activations = load_recorded_trace(paths[0]), load_activations(paths[1], LAYERS)
    made = factories(trace, activations, needed_pairs(LAYERS, DISTANCES, GROUPS), rank=4)
    return measure(Replay(trace, activations, 1.0, 0.0, range(POSITIONS)), made, DISTANCES, GROUPS)


@pytest.mark.slow
def test_the_oracle_finds_everything_at_every_distance(rows: list[Row]) -> None:
    control = [row for row in rows if row.policy == "oracle" and (row.distance or row.sets == "own")]
    assert {row.distance for row in control} == {1, 3, None}
    assert all(row.recall == row.precision == 1.0 for row in control)


@pytest.mark.slow
def test_one_set_for_a_group_bounds_even_the_oracle(rows: list[Row]) -> None:
    shared = {(row.kind, row.group): row.recall for row in rows if row.policy == "oracle" and row.sets == "shared"}
    assert shared["qkv", 1] == 1.0
    assert shared["o", 2] < shared["qkv", 2] < 1.0


@pytest.mark.slow
def test_cross_layer_beats_chance_where_channels_keep_their_identity_only(rows: list[Row]) -> None:
    found = {row.kind: row for row in rows if row.policy == "cross-layer" and row.distance == 1}
    assert found["qkv"].recall > found["qkv"].chance + 0.2
    assert abs(found["o"].recall - found["o"].chance) < 0.1


@pytest.mark.slow
def test_random_channels_find_what_chance_says(rows: list[Row]) -> None:
    found = [row for row in rows if row.policy == "random" and row.distance == 1]
    assert all(abs(row.recall - row.chance) < 0.08 for row in found)


@pytest.mark.slow
def test_the_gate_predicts_down_within_its_layer_only(rows: list[Row]) -> None:
    found = {(row.kind, row.distance): row.recall for row in rows if row.policy == "gate-first" and not row.group}
    assert found["down", 0] > 0.6
    assert found["down", 1] == 0.0


@pytest.mark.slow
def test_the_combination_is_as_good_as_the_best_of_each_kind(rows: list[Row]) -> None:
    nearest = {(row.policy, row.kind): row.recall for row in rows if row.distance == 1}
    for kind in ("qkv", "o", "gate_up", "down"):
        others = [r for (name, k), r in nearest.items() if k == kind and name not in ("oracle", "random")]
        assert nearest["best-per-input", kind] == max(others)


@pytest.mark.slow
def test_group_0_is_never_predicted(rows: list[Row]) -> None:
    samples = {row.group: row.samples for row in rows if row.policy == "oracle" and row.kind == "qkv" and row.group}
    assert samples == {1: POSITIONS * (LAYERS - 1), 2: POSITIONS * (LAYERS - 2)}


def test_beside_a_cache_popularity_finds_less_and_the_oracle_still_everything(tmp_path: Path) -> None:
    paths = write_recorded_run(tmp_path, layers=LAYERS, positions=POSITIONS)
    trace = load_recorded_trace(paths[0])
    found = {}
    for cache_share in (0.0, 0.5):
        replay = Replay(trace, None, 1.0, cache_share, range(POSITIONS))
        made = factories(trace, None, [], rank=4)
        for name in ("oracle", "popularity"):
            replay.run(name, made[name](), (1,), ())
        found[cache_share] = {row.policy: row.recall for row in replay.rows() if row.kind == "qkv"}
    assert found[0.5]["oracle"] == found[0.0]["oracle"] == 1.0
    assert found[0.5]["popularity"] < 0.75 * found[0.0]["popularity"]


def test_a_tally_counts_shares_of_what_was_used_and_of_what_was_named() -> None:
    tally = Tally()
    tally.add(np.array([1, 2, 3]), np.array([2, 9]), channels=10, budget=3)
    assert (tally.recall, tally.precision, tally.chance) == (1 / 2, 1 / 3, 0.3)
    tally.add(None, np.array([2, 9]), channels=10, budget=3)
    assert (tally.recall, tally.samples) == (1 / 2, 2)


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    _, activations = write_recorded_run(tmp_path, layers=2, positions=2)
    with pytest.raises(FormatError):
        load_recorded_trace(activations)


def test_a_trace_of_other_selections_is_refused(tmp_path: Path) -> None:
    header = TraceHeader(
        model="m", fingerprint="f", policy="neuron", sparsity=0.5, channels={"neuron": 4}, layer_count=1,
        prompt_positions=0,
    )  # fmt: skip
    with TraceWriter(tmp_path / "trace.arrow", header) as writer:
        writer.add(0, 0, "neuron", np.array([1], np.uint32))
    with pytest.raises(ValueError, match="no selections of qkv, o, gate_up, down"):
        load_recorded_trace(tmp_path / "trace.arrow")


def test_activations_of_another_model_are_refused(tmp_path: Path) -> None:
    _, activations = write_recorded_run(tmp_path, layers=2, positions=2)
    with pytest.raises(ValueError, match=r"expected layers 0\.\.2 per position"):
        load_activations(activations, 3)


@pytest.mark.system
def test_the_benchmark_prints_a_row_per_policy_input_and_distance() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "--smoke"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["policy"] for row in printed} >= {"cross-layer", "oracle", "low-rank", "gated-low-rank"}
    assert all(0 <= row["recall"] <= 1 for row in printed)
