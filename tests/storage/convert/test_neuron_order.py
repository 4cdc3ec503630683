from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from tidemill.storage.convert.neuron_order import (
    load_orders,
    order_by_coactivation,
    order_by_frequency,
    save_orders,
)
from tidemill.storage.errors import SourceError


def test_the_most_frequent_come_first_and_equals_stay() -> None:
    assert order_by_frequency(np.array([1, 5, 0, 5, 9])).tolist() == [4, 1, 3, 0, 2]


def test_neurons_that_are_active_together_are_stored_together() -> None:
    """Three cliques, mixed: each becomes one run, the most active first; what is never active comes last."""
    cliques = [[0, 7, 11], [2, 3, 10], [1, 8, 9]]
    rng = np.random.default_rng(2)
    selections = [np.array(cliques[i], np.uint32) for i in rng.choice(3, 200, p=[0.2, 0.5, 0.3])]
    order = order_by_coactivation(selections, 12).tolist()
    assert [set(order[i : i + 3]) for i in (0, 3, 6)] == [{2, 3, 10}, {1, 8, 9}, {0, 7, 11}]
    assert order[9:] == [4, 5, 6]


def test_a_chain_follows_the_strongest_links() -> None:
    """Pairs 0-2, 2-4, 4-1, 1-3 with falling counts, and 0-4, which would close a ring."""
    selections = [
        np.array(pair, np.uint32)
        for pair, count in (((0, 2), 9), ((2, 4), 8), ((0, 4), 7), ((4, 1), 6), ((1, 3), 5))
        for _ in range(count)
    ]
    assert order_by_coactivation(selections, 5).tolist() == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("seed", range(4))
def test_an_order_is_a_permutation_and_always_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    selections = [np.flatnonzero(rng.random(60) < 0.3).astype(np.uint32) for _ in range(40)]
    order = order_by_coactivation(selections, 60)
    assert order.dtype == np.uint32
    assert np.array_equal(np.sort(order), np.arange(60))
    assert np.array_equal(order, order_by_coactivation(selections, 60))


def test_nothing_selected_is_the_order_of_the_source() -> None:
    assert order_by_coactivation([], 5).tolist() == [0, 1, 2, 3, 4]


def test_orders_are_saved_and_loaded(tmp_path: Path) -> None:
    orders = {0: np.array([2, 0, 1], np.uint32), 3: np.array([1, 2, 0], np.uint32)}
    save_orders(tmp_path / "orders", orders)
    loaded = load_orders(tmp_path / "orders", layer_count=4, neuron_count=3)
    assert {layer: order.tolist() for layer in range(4) if (order := loaded(layer)) is not None} == {
        0: [2, 0, 1],
        3: [1, 2, 0],
    }


@pytest.mark.parametrize(
    ("name", "order", "says"),
    [
        ("layer.9", np.arange(3, dtype=np.uint32), "expected layer.0 to layer.3"),
        ("mlp", np.arange(3, dtype=np.uint32), "expected layer.0"),
        ("layer.1", np.zeros(3, np.uint32), "layer 1 is not a permutation of its 3 neurons"),
        ("layer.1", np.arange(4, dtype=np.uint32), "not a permutation"),
        ("layer.1", np.arange(3, dtype=np.float32), "not a permutation"),
    ],
)
def test_a_file_of_another_model_is_refused(
    tmp_path: Path, name: str, order: npt.NDArray[np.uint32], says: str
) -> None:
    save_file({name: order}, tmp_path / "orders")
    with pytest.raises(SourceError, match=says):
        load_orders(tmp_path / "orders", layer_count=4, neuron_count=3)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100])
def test_what_is_no_such_file_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "orders").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as a file of neuron orders"):
        load_orders(tmp_path / "orders", layer_count=4, neuron_count=3)
