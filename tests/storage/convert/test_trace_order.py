from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes.trace_rows import Row, write_trace
from tidemill.storage.convert.neuron_order import order_by_coactivation, order_by_frequency
from tidemill.storage.convert.trace_order import ORDERS_BY, OrderBy, is_trace, orders_from_trace
from tidemill.storage.errors import SourceError

NEURONS = 20


def rows_of(layer: int, name: str) -> list[Row]:
    rng = np.random.default_rng(layer)
    weights = rng.random(NEURONS)
    return [(position, layer, name, np.flatnonzero(rng.random(NEURONS) < weights).tolist()) for position in range(30)]


@pytest.mark.parametrize("by", ORDERS_BY)
@pytest.mark.parametrize("name", ["down", "neuron"])
def test_orders_are_those_of_each_layers_selections(tmp_path: Path, by: OrderBy, name: str) -> None:
    rows = [row for layer in (0, 2) for other in (rows_of(layer, name), rows_of(layer + 9, "gate_up")) for row in other]
    write_trace(tmp_path / "trace", rows)
    assert is_trace(tmp_path / "trace")
    orders = orders_from_trace(tmp_path / "trace", by, layer_count=4, neuron_count=NEURONS)
    assert sorted(orders) == [0, 2]
    for layer, order in orders.items():
        selections = [np.array(row[3], np.uint32) for row in rows_of(layer, name)]
        if by == "coactivation":
            expected = order_by_coactivation(selections, NEURONS)
        else:
            expected = order_by_frequency(np.bincount(np.concatenate(selections), minlength=NEURONS))
        assert np.array_equal(order, expected)


def test_a_trace_of_another_model_or_without_neurons_is_refused(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", rows_of(0, "down"))
    with pytest.raises(SourceError, match="beyond the 5"):
        orders_from_trace(tmp_path / "trace", "frequency", layer_count=4, neuron_count=5)
    write_trace(tmp_path / "trace", rows_of(0, "o"))
    with pytest.raises(SourceError, match="no selections of neurons"):
        orders_from_trace(tmp_path / "trace", "frequency", layer_count=4, neuron_count=NEURONS)


def test_what_is_no_trace_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"ARROW1 and nothing more")
    (tmp_path / "other").write_bytes(b"{}")
    assert is_trace(tmp_path / "cut")
    assert not is_trace(tmp_path / "other")
    with pytest.raises(SourceError, match="cannot be read as a trace"):
        orders_from_trace(tmp_path / "cut", "frequency", layer_count=4, neuron_count=NEURONS)
    with pytest.raises(SourceError, match="cannot be read"):
        is_trace(tmp_path / "missing")
    with pa.ipc.new_file(str(tmp_path / "strange"), pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(SourceError):
        orders_from_trace(tmp_path / "strange", "frequency", layer_count=1, neuron_count=NEURONS)
