"""A trace in memory, as the visits that a run paid: one per decoded position, layer and input."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader
from tidemill.storage.trace.trace_writer import TraceWriter


class TableKey(NamedTuple):
    layer: int
    input: SelectionInput


@dataclass(frozen=True)
class ReplayedTrace:
    """`visits` are in the order of the run; `tokens` counts decoded positions."""

    header: TraceHeader
    visits: list[tuple[TableKey, Ids]]
    tokens: int

    @property
    def active(self) -> int:
        return sum(ids.size for _, ids in self.visits)

    @property
    def tables(self) -> dict[TableKey, int]:
        """The number of bundles of each table."""
        header = self.header
        return {
            TableKey(layer, name): count
            for layer in range(header.layer_count)
            for name, count in header.channels.items()
        }

    def visits_of(self, table: TableKey) -> list[Ids]:
        return [ids for key, ids in self.visits if key == table]

    def popularity(self) -> dict[TableKey, npt.NDArray[np.int64]]:
        uses = {table: np.zeros(count, np.int64) for table, count in self.tables.items()}
        for table, ids in self.visits:
            uses[table][ids] += 1
        return uses


def load_trace(path: Path) -> ReplayedTrace:
    """Positions of the prompt are left out: a prompt is computed densely. Raises FormatError."""
    with TraceReader(path) as trace:
        visits: list[tuple[TableKey, Ids]] = []
        positions: set[int] = set()
        for row in trace:
            if row.position >= trace.header.prompt_positions:
                visits.append((TableKey(row.layer, row.input), row.selected.copy()))
                positions.add(row.position)
        return ReplayedTrace(trace.header, visits, len(positions))


def write_synthetic_trace(path: Path, tokens: int, seed: int) -> None:
    """Half of the channels of each of three layers at each token: some popular ones, some that stay for a while."""
    channels: dict[SelectionInput, int] = {"qkv": 64, "down": 96}
    header = TraceHeader(
        model="synthetic",
        fingerprint=str(seed),
        policy="topk",
        sparsity=0.5,
        channels=channels,
        layer_count=3,
        prompt_positions=0,
    )
    with TraceWriter(path, header) as trace:
        for position, layer, name, selected in _synthetic_rows(header, tokens, np.random.default_rng(seed)):
            trace.add(position, layer, name, selected)


def _synthetic_rows(
    header: TraceHeader, tokens: int, rng: np.random.Generator
) -> Iterator[tuple[int, int, SelectionInput, Ids]]:
    sizes = {(layer, name): count for layer in range(header.layer_count) for name, count in header.channels.items()}
    popular = {key: rng.standard_normal(count) for key, count in sizes.items()}
    drift = {key: rng.standard_normal(count) for key, count in sizes.items()}
    for position in range(tokens):
        for (layer, name), count in sizes.items():
            key = (layer, name)
            drift[key] = 0.7 * drift[key] + 0.7 * rng.standard_normal(count)
            order = np.argsort(-(popular[key] + drift[key]), kind="stable")
            yield position, layer, name, np.sort(order[: count // 2]).astype(np.uint32)
