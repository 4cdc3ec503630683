"""What decides whether selected weights can be cached, guessed and read in runs: statistics of recorded selections.

    python benchmarks/selection_statistics.py small.arrow wide.arrow independent.arrow
    python benchmarks/selection_statistics.py wide.arrow --order index --order co.safetensors

One row for each trace and input, means over layers and decoded tokens; beside runs, what channels that are active
at random would give. With --order (files of `tidemill convert --order`; index: the source's) neurons are counted where
they would be stored. JSON rows go to stdout, a table to stderr.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from tidemill.storage.convert.neuron_order import NeuronOrder, load_orders
from tidemill.storage.errors import StorageError
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader

Bools = npt.NDArray[np.bool_]
NEURON_INPUTS = ("neuron", "down")


@dataclass(frozen=True)
class Row:
    """Shares are of active channels: `as_last_token` were active at the position before, `as_last_layer` at the layer
    before, `by_popular_half` (`quarter`) are among the half (quarter) that this trace used most: the hit rate of the
    best fixed cache of that size. `run`: channels in a row that are active; `new_run`: that are, and were not at the
    position before, which is what a cache of one token would read."""

    trace: str
    order: str
    input: str
    channels: int
    tokens: int
    active: float
    as_last_token: float
    as_last_layer: float | None  # None where channels of two layers have nothing to do with one another
    by_popular_half: float
    by_popular_quarter: float
    run: float
    new_run: float
    random_run: float  # of channels that are active at random
    random_new_run: float


def read_active(path: Path) -> tuple[TraceHeader, dict[SelectionInput, Bools]]:
    """`[layers, tokens, channels]` of each input, decoded positions only. Raises StorageError, ValueError."""
    with TraceReader(path) as reader:
        said = reader.header
        found: dict[tuple[str, int], list[npt.NDArray[np.uint32]]] = {}
        for row in reader:
            if row.position >= said.prompt_positions:
                found.setdefault((row.input, row.layer), []).append(np.array(row.selected))
    active: dict[SelectionInput, Bools] = {}
    for name, channels in said.channels.items():
        rows = [found.get((name, layer), []) for layer in range(said.layer_count)]
        counts = {len(positions) for positions in rows}
        if len(counts) > 1 or counts <= {0, 1}:
            raise ValueError(f"{path}: input {name} has {sorted(counts)} positions a layer, expected 2 or more of each")
        active[name] = np.zeros((said.layer_count, counts.pop(), channels), np.bool_)
        for layer, positions in enumerate(rows):
            for token, ids in enumerate(positions):
                active[name][layer, token, ids] = True
    return said, active


def statistics(active: Bools) -> dict[str, float]:
    """Of one input, [layers, tokens, channels]."""
    count = active.sum()
    both = (active[:, 1:] & active[:, :-1]).sum()
    layers = (active[1:] & active[:-1]).sum() / max(1, active[1:].sum())
    popular = np.sort(active.sum(axis=1), axis=1)[:, ::-1]
    channels = active.shape[2]
    new = active[:, 1:] & ~active[:, :-1]
    share, fresh = float(active.mean()), float(new.mean())
    return {
        "active": share,
        "as_last_token": float(both / active[:, 1:].sum()),
        "as_last_layer": float(layers),
        "by_popular_half": float(popular[:, : channels // 2].sum() / count),
        "by_popular_quarter": float(popular[:, : channels // 4].sum() / count),
        "run": mean_run(active),
        "new_run": mean_run(new),
        "random_run": 1 / (1 - share),
        "random_new_run": 1 / (1 - fresh),
    }


def mean_run(active: Bools) -> float:
    """How many neighbours in the last axis are true in a row, on average; 0 where none is."""
    starts = active.copy()
    starts[..., 1:] &= ~active[..., :-1]
    return float(active.sum() / max(1, starts.sum()))


def rows_of(path: Path, orders: Sequence[str]) -> Iterator[Row]:
    """Raises StorageError, ValueError."""
    said, active = read_active(path)
    for order in orders:
        for name, channels in active.items():
            placed = active[name]
            if name in NEURON_INPUTS and order != "index":
                neurons = said.channels[name]
                find = load_orders(Path(order), layer_count=said.layer_count, neuron_count=neurons)
                placed = place(channels, find)
            elif order != "index":
                continue
            found = statistics(placed)
            same = None if name in ("o", *NEURON_INPUTS) else found["as_last_layer"]
            yield Row(
                trace=path.stem,
                order=Path(order).stem,
                input=name,
                channels=placed.shape[2],
                tokens=placed.shape[1],
                **{**found, "as_last_layer": same},  # type: ignore[arg-type]
            )


def place(active: Bools, order: NeuronOrder) -> Bools:
    """[layers, tokens, channels] by stored place instead of source index."""
    found = [(layer, order(layer)) for layer in range(len(active))]
    return np.stack([active[layer] if one is None else active[layer][:, one] for layer, one in found])


def as_table(rows: Sequence[Row]) -> Table:
    table = Table(
        "trace", "order", "input", "active", "as last token", "as last layer", "in popular half", "quarter",
        "run (random)", "new run (random)", box=None, pad_edge=False,
    )  # fmt: skip
    for row in rows:
        layer = "-" if row.as_last_layer is None else f"{row.as_last_layer:.1%}"
        table.add_row(
            row.trace, row.order, row.input, f"{row.active:.1%}", f"{row.as_last_token:.1%}", layer,
            f"{row.by_popular_half:.1%}", f"{row.by_popular_quarter:.1%}", f"{row.run:.2f} ({row.random_run:.2f})",
            f"{row.new_run:.2f} ({row.random_new_run:.2f})",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="+", help="what `tidemill trace` recorded")
    parser.add_argument("--order", action="append", help="a file of neuron orders, or index; may be repeated")
    arguments = parser.parse_args()
    try:
        rows = [row for path in arguments.traces for row in rows_of(path, arguments.order or ["index"])]
    except (StorageError, ValueError) as error:
        raise SystemExit(f"selection_statistics: {error}") from None
    for row in rows:
        print(json.dumps(asdict(row)))
    Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 150).print(as_table(rows))


if __name__ == "__main__":
    main()
