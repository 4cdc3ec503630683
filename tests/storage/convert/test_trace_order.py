from pathlib import Path

import numpy as np
import pytest

from tests.fakes.orders import write_trace
from tidemill.storage.convert.neuron_order import order_by_coactivation, order_by_frequency
from tidemill.storage.convert.trace_order import ORDERS_BY, OrderBy, is_trace, orders_from_trace
from tidemill.storage.errors import FormatError, SourceError
from tidemill.storage.trace.header import SelectionInput

NEURONS, LAYERS = 20, 4


def selections_of(layer: int) -> list[list[int]]:
    rng = np.random.default_rng(layer)
    weights = rng.random(NEURONS)
    return [np.flatnonzero(rng.random(NEURONS) < weights).tolist() for _ in range(30)]


@pytest.mark.parametrize("by", ORDERS_BY)
@pytest.mark.parametrize("name", ["down", "neuron"])
def test_orders_are_those_of_each_layers_selections(tmp_path: Path, by: OrderBy, name: SelectionInput) -> None:
    write_trace(tmp_path / "trace", name, {0: selections_of(0), 2: selections_of(2)}, NEURONS, LAYERS)
    assert is_trace(tmp_path / "trace")
    orders = orders_from_trace(tmp_path / "trace", by, layer_count=LAYERS, neuron_count=NEURONS)
    assert sorted(orders) == [0, 2]
    for layer, order in orders.items():
        selections = [np.array(selected, np.uint32) for selected in selections_of(layer)]
        if by == "coactivation":
            expected = order_by_coactivation(selections, NEURONS)
        else:
            expected = order_by_frequency(np.bincount(np.concatenate(selections), minlength=NEURONS))
        assert np.array_equal(order, expected)


def test_a_trace_of_another_model_or_without_neurons_is_refused(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", "down", {0: selections_of(0)}, NEURONS, LAYERS)
    for layers, neurons in ((LAYERS, 5), (3, NEURONS)):
        with pytest.raises(SourceError, match=f"4 layers and 20 neurons, expected {layers} and {neurons}"):
            orders_from_trace(tmp_path / "trace", "frequency", layer_count=layers, neuron_count=neurons)
    write_trace(tmp_path / "other", "o", {0: selections_of(0)}, NEURONS, LAYERS)
    with pytest.raises(SourceError, match="records inputs o; expected neuron or down"):
        orders_from_trace(tmp_path / "other", "frequency", layer_count=LAYERS, neuron_count=NEURONS)
    write_trace(tmp_path / "empty", "down", {}, NEURONS, LAYERS)
    with pytest.raises(SourceError, match="no position"):
        orders_from_trace(tmp_path / "empty", "frequency", layer_count=LAYERS, neuron_count=NEURONS)


def test_what_is_no_trace_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"ARROW1 and nothing more")
    (tmp_path / "other").write_bytes(b"{}")
    assert is_trace(tmp_path / "cut")
    assert not is_trace(tmp_path / "other")
    with pytest.raises(FormatError):
        orders_from_trace(tmp_path / "cut", "frequency", layer_count=LAYERS, neuron_count=NEURONS)
    with pytest.raises(SourceError, match="cannot be read"):
        is_trace(tmp_path / "missing")


def test_a_trace_of_neurons_that_are_stored_in_another_order_is_refused(tmp_path: Path) -> None:
    """Its ids are places in that order: taken for the source's they would give an order that looks right and is not."""
    write_trace(tmp_path / "trace", "down", {0: selections_of(0)}, NEURONS, LAYERS, neuron_order="a1b2")
    with pytest.raises(SourceError, match=r"is of m, which stores its neurons in an order of its own \(digest a1b2\)"):
        orders_from_trace(tmp_path / "trace", "frequency", layer_count=LAYERS, neuron_count=NEURONS)
