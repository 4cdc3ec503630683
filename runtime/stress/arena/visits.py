"""What the arena is asked for in an arena job: tables, and visits to them token after token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import VisitBundles
from tidemill.actors.packing import pack_ids
from tidemill.runtime.hot_set import read_popularity, trace_tables
from tidemill.runtime.selection_recorder import INPUT_OF
from tidemill.runtime.stress.arena.job import ArenaJob
from tidemill.runtime.stress.arena.mixes import draw_tokens, parse_mix
from tidemill.runtime.tuning.synthetic_model import ONE_LAYER
from tidemill.storage.manifest import FORMAT_VERSION, Manifest, Plane, Role, Source, Table
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader

Uses = npt.NDArray[np.int64]
ROLE_OF: Mapping[SelectionInput, Role] = {name: role for role, name in INPUT_OF.items()}


@dataclass(frozen=True, slots=True)
class Visits:
    """`tokens`: the visits of each. `popularity`: of other text, packed as ArenaConfig wants it. `active`: of each
    (table, place), bundles that a token uses on average."""

    manifest: Manifest
    tokens: Sequence[Sequence[VisitBundles]]
    popularity: Mapping[int, bytes]
    active: Mapping[tuple[int, int], float]
    told: str


def make_visits(job: ArenaJob) -> Visits:
    """Raises StorageError, ValueError."""
    return _draw(job) if job.trace is None else _replay(job, Path(job.trace))


def _draw(job: ArenaJob) -> Visits:
    parts = parse_mix(job.mix)
    count = max(1, round(job.active * job.channels))
    rows: list[list[npt.NDArray[np.uint32]]] = []
    popularity: dict[int, bytes] = {}
    for layer in range(job.layers):
        stream = draw_tokens(parts, job.channels, count, np.random.default_rng([job.seed, layer]))
        other = list(islice(stream, job.tokens))  # text before: the same channels are popular, others are used
        uses = np.zeros((1, job.channels), np.uint32)
        for ids in other:
            uses[0, ids] += 1
        popularity[layer] = pack_ids(uses)
        rows.append(list(islice(stream, job.tokens)))
    manifest = _manifest([_table("mlp", layer, job.channels, job.bundle_bytes) for layer in range(job.layers)])
    tokens = [
        [VisitBundles(layer, 0, layer, layer, pack_ids(rows[layer][token]), True) for layer in range(job.layers)]
        for token in range(job.tokens)
    ]
    active = {(layer, 0): float(np.mean([ids.size for ids in rows[layer]])) for layer in range(job.layers)}
    told = f"{job.mix}: {count} of {job.channels} channels in each of {job.layers} layers"
    return Visits(manifest, tokens, popularity, active, told)


def _replay(job: ArenaJob, trace: Path) -> Visits:
    with TraceReader(trace) as reader:
        header = reader.header
        if job.model is not None:
            manifest = load_manifest(Path(job.model))
            tables = trace_tables(manifest, header, trace)
        else:
            manifest = _of_header(header, job.bundle_bytes)
            tables = {(table.layer, INPUT_OF[table.role]): i for i, table in enumerate(manifest.tables)}
        rows = [
            (row.position, row.layer, tables[row.layer, row.input], row.selected.copy())
            for row in reader
            if row.position >= header.prompt_positions and (row.layer, row.input) in tables
        ]
    tokens: list[list[VisitBundles]] = []
    used: dict[tuple[int, int], list[int]] = {}
    for _, of_token in groupby(rows, key=lambda row: row[0]):
        visits: list[VisitBundles] = []
        for _, layer, number, selected in of_token:
            table = manifest.tables[number]
            bundles = pack_ids(table.bundles_of(selected.astype(np.int64), layer))
            visits.append(VisitBundles(len(visits), 0, number, layer, bundles, True))
            used.setdefault((number, layer - table.layer), []).append(selected.size)
        tokens.append(visits)
    if len(tokens) < 2:
        raise ValueError(f"{trace} has {len(tokens)} decoded positions; a replay needs two at least")
    told = f"{len(tokens)} tokens of a trace of {header.model}, {header.policy} at {header.sparsity:.0%}"
    popularity = {} if job.calibration is None else read_popularity(manifest, Path(job.calibration))
    return Visits(manifest, tokens, popularity, {key: float(np.mean(n)) for key, n in used.items()}, told)


def _of_header(header: TraceHeader, bundle_bytes: int) -> Manifest:
    """A table for each input of each layer, in a trace's order."""
    tables = [
        _table(ROLE_OF[name], layer, count, bundle_bytes)
        for layer in range(header.layer_count)
        for name, count in header.channels.items()
    ]
    return _manifest(tables, layers=header.layer_count)


def _table(role: Role, layer: int, channels: int, bundle_bytes: int) -> Table:
    return Table(
        role=role,
        layer=layer,
        layout="neuron",
        element="bf16",
        bundle_count=channels,
        bundle_elements=bundle_bytes // 2,
        planes=(Plane("raw-bundles", bundle_bytes),),
        checksum_block_bytes=0,
    )


def _manifest(tables: Sequence[Table], layers: int = 1) -> Manifest:
    """Of tables that no shard holds: the arena never reads."""
    decoder = msgspec.structs.replace(ONE_LAYER, layer_count=layers, windows=(0,) * layers)
    return Manifest(
        format_version=FORMAT_VERSION,
        writer="stress",
        decoder=decoder,
        source=Source(kind="synthetic", name="stress", fingerprint="", note=""),
        tables=tuple(tables),
        shards=(),
        extents=(),
        files=(),
    )
