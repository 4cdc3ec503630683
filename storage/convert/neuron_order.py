"""In which order a layer's neurons are stored, so that those that are used together lie together; and its file.

An order is u32 [ff_size]: the source index of each stored neuron. The file is a small safetensors file with a tensor
`layer.N` for each layer that has an order.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.errors import SourceError

PARTNERS = 32  # of a neuron that it may be stored next to: those it is most often active with
COUNTED_NEURONS = 512  # whose partners are counted at once

Order32 = npt.NDArray[np.uint32]
NeuronOrder = Callable[[int], Order32 | None]  # layer -> source index of each stored neuron, None: as in the source


def order_by_frequency(counts: npt.NDArray[np.int64]) -> Order32:
    """Of how often each neuron was selected [ff_size]: the most frequent first, equals in the source's order."""
    return np.argsort(-counts, kind="stable").astype(np.uint32)


def order_by_coactivation(selections: Sequence[npt.NDArray[np.uint32]], neuron_count: int) -> Order32:
    """Of the neurons that each position selected: chains of neurons that were often selected together.

    Greedy, after Ripple (2410.19274, section 4): pairs by how often both were selected, the most often first (equals by
    their ids), become neighbours unless one of them has two already or they would close a ring; each neuron counts only
    with its PARTNERS best. The chains follow one another by the mean count of their neurons.
    """
    active = np.zeros((len(selections), neuron_count), np.float32)
    for position, selected in enumerate(selections):
        active[position, selected] = 1.0
    chains = _link(_pairs(active), neuron_count)
    counts = active.sum(axis=0)
    chains.sort(key=lambda chain: (-float(counts[chain].mean()), chain[0]))
    return np.concatenate([np.array(chain, np.uint32) for chain in chains])


def save_orders(path: Path, orders: Mapping[int, Order32]) -> None:
    """Write the orders of layers, atomically."""
    write_atomically(path, save({f"layer.{layer}": orders[layer].astype(np.uint32) for layer in sorted(orders)}))


def load_orders(path: Path, *, layer_count: int, neuron_count: int) -> NeuronOrder:
    """Raises SourceError for a file that cannot be read or that has no orders of such a decoder."""
    try:
        tensors: Mapping[str, npt.NDArray[np.uint32]] = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path} cannot be read as a file of neuron orders: {error}") from None
    orders: dict[int, Order32] = {}
    layers = {f"layer.{layer}": layer for layer in range(layer_count)}
    for name, order in tensors.items():
        if name not in layers:
            raise SourceError(f"{path} holds {name!r}, expected layer.0 to layer.{layer_count - 1} of this model")
        orders[layers[name]] = check_order(order, layers[name], neuron_count).astype(np.uint32)
    return orders.get


def check_order(order: npt.NDArray[np.uint32], layer: int, neuron_count: int) -> npt.NDArray[np.int64]:
    """The order, to index with. Raises SourceError when it is no permutation of the layer's neurons."""
    if order.dtype.kind != "u" or not np.array_equal(np.sort(order), np.arange(neuron_count)):
        raise SourceError(f"the neuron order of layer {layer} is not a permutation of its {neuron_count} neurons")
    return order.astype(np.int64)


def _pairs(active: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Pairs (i, j), i < j, of neurons that were selected together, best first, [P, 2]."""
    neuron_count = active.shape[1]
    partners = min(PARTNERS, neuron_count - 1)
    found: list[npt.NDArray[np.int64]] = []
    for first in range(0, neuron_count, COUNTED_NEURONS):
        together = active[:, first : first + COUNTED_NEURONS].T @ active  # whole numbers, exact below 2^24 positions
        rows = np.arange(len(together))
        together[rows, first + rows] = -1.0
        best = np.argsort(-together, axis=1, kind="stable")[:, :partners]
        counts = np.take_along_axis(together, best, axis=1).astype(np.int64)
        left = np.broadcast_to(first + rows[:, None], best.shape)
        found.append(np.stack([-counts, np.minimum(left, best), np.maximum(left, best)], axis=-1).reshape(-1, 3))
    pairs = np.unique(np.concatenate(found), axis=0)  # sorts: by count falling, then by ids
    return pairs[pairs[:, 0] < 0, 1:]


def _link(pairs: npt.NDArray[np.int64], neuron_count: int) -> list[list[int]]:
    """Chains of all neurons, each from its end of the lower id."""
    neighbours: list[list[int]] = [[] for _ in range(neuron_count)]
    root = list(range(neuron_count))

    def find(neuron: int) -> int:
        while root[neuron] != neuron:
            root[neuron] = neuron = root[root[neuron]]
        return neuron

    for one, other in pairs.tolist():
        if len(neighbours[one]) < 2 and len(neighbours[other]) < 2 and find(one) != find(other):
            neighbours[one].append(other)
            neighbours[other].append(one)
            root[find(one)] = find(other)
    return _walk(neighbours)


def _walk(neighbours: Sequence[Sequence[int]]) -> list[list[int]]:
    chains: list[list[int]] = []
    seen = [False] * len(neighbours)
    for end, linked in enumerate(neighbours):
        if seen[end] or len(linked) == 2:
            continue
        chain = [end]
        seen[end] = True
        while following := [neuron for neuron in neighbours[chain[-1]] if not seen[neuron]]:
            chain.append(following[0])
            seen[following[0]] = True
        chains.append(chain)
    return chains
