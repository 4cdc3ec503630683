from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.fixtures.recorded_run import write_recorded_run
from benchmarks.recorded_trace import load_activations, load_recorded_trace
from benchmarks.replayed_trace import write_synthetic_trace
from tidemill.runtime.stress.predictor.inputs import make_inputs, read_activations, tables_of
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.storage.errors import FormatError

SMALL = PredictorJob(
    name="a", policies=("popularity",), layers=3, channels=32, neurons=64, active=0.25, tokens=4
)  # fmt: skip


def test_tables_are_those_of_a_conversion_groups_where_inputs_read_the_stream() -> None:
    tables = tables_of({"qkv": 8, "o": 8, "gate_up": 8, "down": 16}, layer_count=3, group=2)
    assert [(t.kind, t.layer, t.layers) for t in tables] == [
        ("qkv", 0, 2), ("o", 0, 1), ("gate_up", 0, 2), ("down", 0, 1),
        ("o", 1, 1), ("down", 1, 1),
        ("qkv", 2, 1), ("o", 2, 1), ("gate_up", 2, 1), ("down", 2, 1),
    ]  # fmt: skip
    assert [t.table for t in tables] == list(range(10))


def test_drawn_inputs_are_computed_with_their_largest_channels_in_compute_order() -> None:
    inputs = make_inputs(SMALL)
    assert len(inputs.tokens) == 4
    for token in inputs.tokens:
        assert [inputs.tables[one.table].kind for one in token] == ["qkv", "o", "gate_up", "down"] * 3
        assert [one.layer for one in token] == [0] * 4 + [1] * 4 + [2] * 4
        for one in token:
            assert one.values is not None
            sizes = np.abs(one.values)
            assert one.active.size == sizes.size // 4
            rest = np.delete(sizes, one.active)
            assert sizes[one.active].min() >= rest.max()


def test_inputs_that_read_the_stream_are_alike_in_layers_near_to_one_another() -> None:
    def overlap(kind: str) -> float:
        inputs = make_inputs(msgspec.structs.replace(SMALL, channels=512, neurons=512, tokens=8))
        shared = []
        for token in inputs.tokens:
            sets = [set(one.active.tolist()) for one in token if inputs.tables[one.table].kind == kind]
            shared += [len(a & b) / len(a) for a, b in pairwise(sets)]
        return float(np.mean(shared))

    assert overlap("qkv") > overlap("o") + 0.2
    assert overlap("o") == pytest.approx(0.25, abs=0.08)  # chance


def test_a_recorded_run_is_told_with_its_values(tmp_path: Path) -> None:
    trace, activations = write_recorded_run(tmp_path, layers=3, positions=5)
    inputs = make_inputs(msgspec.structs.replace(SMALL, trace=str(trace), activations=str(activations)))
    recorded, values = load_recorded_trace(trace), load_activations(activations, 3)
    assert len(inputs.tokens) == 5
    for position, token in enumerate(inputs.tokens):
        for one in token:
            kind = inputs.tables[one.table].kind
            assert one.active.tolist() == recorded.active(position, one.layer, kind).tolist()
            assert one.values is not None
            assert np.array_equal(one.values, values.of(position, one.layer, kind))


def test_a_trace_alone_says_what_was_selected(tmp_path: Path) -> None:
    write_synthetic_trace(tmp_path / "a.arrow", tokens=3, seed=1)
    inputs = make_inputs(msgspec.structs.replace(SMALL, trace=str(tmp_path / "a.arrow")))
    assert all(one.values is None for token in inputs.tokens for one in token)
    assert {inputs.tables[one.table].kind for one in inputs.tokens[0]} == {"qkv", "down"}


def test_activations_of_another_run_and_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    trace, activations = write_recorded_run(tmp_path, layers=3, positions=5)
    write_synthetic_trace(tmp_path / "other.arrow", tokens=3, seed=1)
    job = msgspec.structs.replace(SMALL, trace=str(tmp_path / "other.arrow"), activations=str(activations))
    with pytest.raises(FormatError, match="record both of one run"):
        make_inputs(job)
    for wrong in (trace, Path(__file__), tmp_path / "missing"):
        with pytest.raises(FormatError, match="is no Arrow file of activations"):
            read_activations(wrong)
