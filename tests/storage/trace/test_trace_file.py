import json
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.storage.errors import DeviceError, FormatError, StorageError, VersionError
from tidemill.storage.trace import trace_reader, trace_writer
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.schema import METADATA_KEY, trace_schema
from tidemill.storage.trace.trace_reader import TraceReader
from tidemill.storage.trace.trace_writer import TraceWriter

Row = tuple[int, int, SelectionInput, list[int]]
HEADER = TraceHeader(
    model="tiny",
    fingerprint="f",
    policy="topk",
    sparsity=0.5,
    channels={"qkv": 8, "down": 16},
    layer_count=2,
    prompt_positions=3,
)
ROWS: list[Row] = [(3, 0, "qkv", [0, 7]), (3, 0, "down", [2, 15]), (3, 1, "qkv", []), (5, 0, "down", [4])]


def write(path: Path, rows: Iterable[Row], header: TraceHeader = HEADER) -> Path:
    with TraceWriter(path, header) as trace:
        for position, layer, name, selected in rows:
            trace.add(position, layer, name, np.array(selected, np.uint32))
    return path


def read(path: Path) -> list[Row]:
    with TraceReader(path) as trace:
        return [(position, layer, name, selected.tolist()) for position, layer, name, selected in trace]


def batch_of(rows: Iterable[Row], names: list[str] | None = None) -> pa.RecordBatch:
    """Without the writer's checks, as another program would build it: nullable fields, wider dictionary ids."""
    names = names or ["down", "qkv"]
    positions, layers, inputs, selected = zip(*rows, strict=True)
    return pa.record_batch(
        [
            pa.array(positions, pa.uint32()),
            pa.array(layers, pa.uint16()),
            pa.DictionaryArray.from_arrays(pa.array([names.index(i) for i in inputs], pa.int32()), pa.array(names)),
            pa.array(selected, pa.list_(pa.uint32())),
        ],
        names=["position", "layer", "input", "selected"],
    )


def write_batches(
    path: Path, batches: list[pa.RecordBatch], header: object = HEADER, options: pa.ipc.IpcWriteOptions | None = None
) -> Path:
    schema = batches[0].schema.with_metadata({METADATA_KEY: msgspec.json.encode(header)})
    with pa.ipc.new_file(str(path), schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "a.arrow", ROWS)
    with TraceReader(path) as trace:
        assert trace.header == HEADER
    assert read(path) == ROWS
    assert [entry.name for entry in path.parent.iterdir()] == ["a.arrow"]


def test_plain_pyarrow_reads_a_trace(tmp_path: Path) -> None:
    table = pa.ipc.open_file(str(write(tmp_path / "a.arrow", ROWS))).read_all()
    assert table.column("input").to_pylist() == [row[2] for row in ROWS]
    assert table.column("selected").to_pylist() == [row[3] for row in ROWS]
    assert json.loads(table.schema.metadata[METADATA_KEY])["channels"] == {"qkv": 8, "down": 16}


def test_rows_survive_many_batches_and_two_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "BATCH_IDS", 3)
    path = write(tmp_path / "a.arrow", ROWS)
    with TraceReader(path) as trace:
        assert len(list(trace)) == len(list(trace)) == len(ROWS)
    assert read(path) == ROWS
    assert pa.ipc.open_file(str(path)).num_record_batches == 2


def test_an_empty_trace_is_a_trace(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.arrow", [])) == []


def test_a_trace_of_another_program_is_read(tmp_path: Path) -> None:
    assert read(write_batches(tmp_path / "a.arrow", [batch_of(ROWS[:2]), batch_of(ROWS[2:])])) == ROWS


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((3, 0, "qkv", [7, 0]), "ids must rise"),
        ((3, 0, "qkv", [8]), "below 8"),
        ((3, 2, "qkv", []), "layer below 2"),
        ((1 << 32, 0, "qkv", []), "u32 position"),
        ((2, 1, "down", []), "rows must rise"),
        ((3, 0, "neuron", []), "names qkv, down only"),
    ],
)
def test_the_writer_refuses_what_no_reader_would_take_and_leaves_nothing(
    tmp_path: Path, row: Row, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        write(tmp_path / "a.arrow", [(2, 1, "down", [1]), row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, "qkv", [8])], "id 8 in layer 0, but input 'qkv' has 8 channels"),
        ([(0, 0, "qkv", [0]), (0, 0, "down", [3, 3])], "ids of a row must rise"),
        ([(0, 0, "qkv", []), (0, 1, "qkv", [5, 4])], "ids of a row must rise"),
        ([(0, 2, "qkv", [1])], "layer 2, the header says 2 layers"),
        ([(0, 1, "qkv", [1]), (0, 0, "qkv", [1])], "rows must rise"),
        ([(0, 0, "qkv", [1]), (0, 0, "qkv", [1])], "rows must rise"),
    ],
)
def test_rows_that_break_the_format_are_refused(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(write_batches(tmp_path / "a.arrow", [batch_of(rows)]))


def test_rows_must_rise_over_batches_too(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="row 4 and on: rows must rise"):
        read(write_batches(tmp_path / "a.arrow", [batch_of(ROWS), batch_of(ROWS)]))


def test_inputs_that_the_header_does_not_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="its inputs are"):
        read(write_batches(tmp_path / "a.arrow", [batch_of(ROWS, ["qkv", "down", "neuron"])]))


def test_nulls_are_refused(tmp_path: Path) -> None:
    batch = batch_of(ROWS[:1])
    columns = [*batch.columns[:3], pa.array([[None]], pa.list_(pa.uint32()))]
    with pytest.raises(FormatError, match="nulls"):
        read(write_batches(tmp_path / "a.arrow", [pa.record_batch(columns, names=batch.schema.names)]))


def changed(**changes: object) -> dict[str, object]:
    return {**msgspec.to_builtins(HEADER), **changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (changed(format=2), "trace format 2"),
        (changed(layer_count=0), "`layer_count` is 0"),
        (changed(channels={}), "names no input"),
        (changed(channels={"qkv": 1 << 40}), "qkv"),
        (changed(channels={"head": 4}), "head"),
        (changed(sparsity=1.0), "`sparsity` is 1.0"),
        (changed(prompt_positions=-1), "`prompt_positions` is -1"),
        (changed(extra=1), "extra"),
        ([1], "Expected `object`"),
        ("x" * 70_000, "70002 bytes"),
    ],
)
def test_bad_headers_are_refused(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(write_batches(tmp_path / "a.arrow", [batch_of(ROWS)], header))


def test_another_version_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="reads 1"):
        read(write_batches(tmp_path / "a.arrow", [batch_of(ROWS)], changed(format=9)))


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.rename_columns(["position", "layer", "input", "chosen"]),
        lambda batch: batch.select(["position", "layer", "input"]),
        lambda batch: batch.set_column(1, "layer", batch.column("position")),
        lambda batch: batch.set_column(2, "input", batch.column("input").dictionary_decode()),
    ],
)
def test_another_schema_is_refused(tmp_path: Path, change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    with pytest.raises(FormatError, match="a trace has the columns"):
        read(write_batches(tmp_path / "a.arrow", [change(batch_of(ROWS))]))


def test_an_arrow_file_without_our_header_is_no_trace(tmp_path: Path) -> None:
    batch = batch_of(ROWS)
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(FormatError, match="is no trace"):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_batches_are_refused_before_they_are_unpacked(tmp_path: Path, compression: str) -> None:
    rows: list[Row] = [(i, 0, "qkv", []) for i in range(1000)]
    options = pa.ipc.IpcWriteOptions(compression=compression)
    path = write_batches(tmp_path / "a.arrow", [batch_of(rows)], options=options)
    with pytest.raises(FormatError, match="compressed"):
        read(path)


def test_large_batches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_reader, "BATCH_BYTES_MAX", 64)
    with pytest.raises(FormatError, match="at most 64"):
        read(write(tmp_path / "a.arrow", ROWS))


def test_what_is_no_file_or_no_arrow_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no arrow file\n" * 100)
    (tmp_path / "empty").touch()
    for name in ("missing", "text", "empty", "."):
        with pytest.raises(FormatError):
            read(tmp_path / name)


def test_a_trace_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", ROWS)
    whole = path.read_bytes()
    for size in range(0, len(whole), 64):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read(path)


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_give_rows_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]]
) -> None:
    path = write(tmp_path_factory.mktemp("damaged") / "a.arrow", ROWS)
    damaged = bytearray(path.read_bytes())
    for place, value in places:
        damaged[place % len(damaged)] = value
    path.write_bytes(damaged)
    try:
        rows = read(path)
    except StorageError:
        return
    for _, layer, name, selected in rows:
        assert layer < 4096
        assert selected == sorted(selected)
        assert name in ("qkv", "o", "gate_up", "down", "neuron")


def test_the_schema_declares_no_nulls() -> None:
    assert not any(field.nullable for field in trace_schema(HEADER))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: writing beyond is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [64, 5000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "BATCH_IDS", 64)
    rows: list[Row] = [(position, 0, "down", list(range(16))) for position in range(3, 900)]
    with files_of_at_most(most), pytest.raises(DeviceError, match=r"cannot be written .*: File too large; free space"):
        write(tmp_path / "a.arrow", rows)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"a\.arrow: the trace cannot be written"):
        write(tmp_path / "file" / "a.arrow", ROWS)
