"""Statistics of selections that were written down by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.selection_statistics import mean_run, place, read_active, rows_of, statistics
from tests.fakes.orders import write_trace
from tidemill.storage.convert.neuron_order import save_orders

ACTIVE = np.array(
    [[[1, 1, 0, 0], [1, 0, 1, 0]], [[1, 1, 0, 0], [0, 0, 1, 1]]], np.bool_
)  # 2 layers, tokens; 4 channels


def test_shares_count_what_stays_from_token_to_token_and_from_layer_to_layer() -> None:
    found = statistics(ACTIVE)
    assert found["active"] == 0.5
    assert found["as_last_token"] == 1 / 4
    assert found["as_last_layer"] == 3 / 4
    assert found["by_popular_half"] == (3 + 2) / 8
    assert found["by_popular_quarter"] == (2 + 1) / 8


def test_runs_are_of_neighbours() -> None:
    assert mean_run(np.array([1, 1, 0, 1, 0, 1, 1, 1], np.bool_)) == 2.0
    assert mean_run(np.zeros(4, np.bool_)) == 0.0
    assert statistics(ACTIVE)["new_run"] == 3 / 2


def test_an_order_moves_neurons_to_where_they_are_stored(tmp_path: Path) -> None:
    order = np.array([0, 2, 1, 3], np.uint32)
    assert place(ACTIVE, lambda layer: order if layer == 0 else None)[:, 1].astype(int).tolist() == [
        [1, 1, 0, 0],
        [0, 0, 1, 1],
    ]
    trace, file = tmp_path / "t.arrow", tmp_path / "o.safetensors"
    write_trace(trace, "down", {0: [[0, 2], [0, 2]]}, channels=4, layers=1)
    save_orders(file, {0: order})
    index, ordered = rows_of(trace, ["index", str(file)])
    assert (index.run, ordered.run) == (1.0, 2.0)


def test_layers_of_unlike_length_are_refused(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.arrow", "qkv", {0: [[0]]}, channels=4, layers=1)
    with pytest.raises(ValueError, match="expected 2 or more"):
        read_active(tmp_path / "t.arrow")
