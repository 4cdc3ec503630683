"""Traces of selections, written row by row."""

from pathlib import Path

import pyarrow as pa

Row = tuple[int, int, str, list[int]]  # position, layer, input, selected


def write_trace(path: Path, rows: list[Row]) -> None:
    columns = {
        "position": pa.array([row[0] for row in rows], pa.uint32()),
        "layer": pa.array([row[1] for row in rows], pa.uint16()),
        "input": pa.array([row[2] for row in rows]).dictionary_encode(),
        "selected": pa.array([row[3] for row in rows], pa.list_(pa.uint32())),
    }
    table = pa.table(columns)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
