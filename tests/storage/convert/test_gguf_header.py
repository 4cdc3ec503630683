import os
import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.gguf_files import write_gguf
from tidemill.storage.convert.gguf_header import VALUES_MAX, read_gguf_header
from tidemill.storage.convert.gguf_source import GgufSource
from tidemill.storage.errors import SourceError, StorageError, UnsupportedModelError


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    write_gguf(path, gguf.GGMLQuantizationType.Q4_0)
    return path


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(
    values: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensor_count, value_count = counts or (len(tensors), len(values))
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, value_count) + b"".join([*values, *tensors])


def tensor(name: bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def array(kind: int, count: int, data: bytes = b"") -> bytes:
    return text(b"a") + struct.pack("<IIQ", 9, kind, count) + data


def test_golden_bytes_are_read(tmp_path: Path) -> None:
    values = [
        text(b"u8") + struct.pack("<IB", 0, 200),
        text(b"i64") + struct.pack("<Iq", 11, -5),
        text(b"f32") + struct.pack("<If", 6, 0.5),
        text(b"yes") + struct.pack("<IB", 7, 2),
        text(b"text") + struct.pack("<I", 8) + text("ü".encode()),
        array(8, 2, text(b"x") + text(b"")),
    ]
    data = header(values, [tensor(b"t", (2, 3), 0, 32), tensor(b"v", (4,), 1, 0)])
    start = -(-len(data) // 32) * 32
    (tmp_path / "x").write_bytes(data.ljust(start + 32 + 24, b"\0"))
    read = read_gguf_header(tmp_path / "x")
    assert read.values == {"u8": 200, "i64": -5, "f32": 0.5, "yes": True, "text": "ü", "a": ["x", ""]}
    assert read.values["yes"] is True
    assert read.tensors["t"] == (gguf.GGMLQuantizationType.F32, start + 32, 8, (3, 2))
    assert read.tensors["v"] == (gguf.GGMLQuantizationType.F16, start, 8, (4,))


def test_it_reads_what_the_library_reads(valid: Path) -> None:
    ours, theirs = read_gguf_header(valid), gguf.GGUFReader(valid)
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.values == fields
    assert set(ours.tensors) == {t.name for t in theirs.tensors}
    for t in theirs.tensors:
        mine = ours.tensors[t.name]
        assert (mine.kind, mine.offset, mine.shape) == (t.tensor_type, t.data_offset, tuple(t.shape.tolist()[::-1]))
        assert mine.row_bytes * (mine.shape[0] if len(mine.shape) > 1 else 1) == t.n_bytes


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", SourceError, "4 bytes are to come, of at most 0"),
        (b"GGML" + bytes(40), SourceError, "does not begin with GGUF"),
        (header(version=1), UnsupportedModelError, "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), UnsupportedModelError, "big-endian"),
        (header([array(0, 1 << 40, bytes(64))]), SourceError, "announces 1099511627776 more values"),
        (header([array(12, VALUES_MAX - 9, bytes(64))]), SourceError, "bytes are to come"),
        (header([array(9, 1, bytes(64))]), SourceError, "elements of the unsupported type 9"),
        (header(counts=(1 << 63, 0)), SourceError, "more values"),
        (header(counts=(0, 1 << 63)), SourceError, "more values"),
        (header([text(b"a") + struct.pack("<I", 99)]), SourceError, "unknown type 99"),
        (header([struct.pack("<Q", 1 << 60)]), SourceError, "bytes are to come"),
        (header([text(b"\xff\xfe") + struct.pack("<IB", 0, 0)]), SourceError, "not UTF-8"),
        (header([text(b"a") + struct.pack("<IB", 0, 0)] * 2), SourceError, "'a' is there twice"),
        (header([text(b"general.alignment") + struct.pack("<II", 4, 3)]), SourceError, "expected a power of two"),
        (header([text(b"general.alignment") + struct.pack("<II", 4, 0)]), SourceError, "expected a power of two"),
        (header((), [tensor(b"t", (4, 0), 0, 0)]), SourceError, r"shape \[0, 4\]"),
        (header((), [tensor(b"t", (4,) * 5, 0, 0)]), SourceError, "5 dimensions"),
        (header((), [tensor(b"t", (), 0, 0)]), SourceError, "0 dimensions"),
        (header((), [tensor(b"t", (33,), 2, 0)]), SourceError, "whole Q4_0 blocks of 32"),
        (header((), [tensor(b"t", (1 << 62, 1 << 62), 0, 0)]), SourceError, "inside the file"),
        (header((), [tensor(b"t", (4,), 0, 1 << 63)]), SourceError, "inside the file"),
        (header((), [tensor(b"t", (4,), 4711, 0)]), UnsupportedModelError, "unknown type 4711"),
        (
            header((), [tensor(b"t", (1,), 0, 0), tensor(b"t", (1,), 0, 32)]) + bytes(200),
            SourceError,
            "expected them once",
        ),
        (header((), [tensor(b"t", (4,), 0, 0), tensor(b"u", (4,), 0, 8)]) + bytes(200), SourceError, "'u'.*after"),
    ],
)
def test_a_header_that_lies_is_refused_at_once(data: bytes, error: type[Exception], says: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(error, match=says) as caught:
        read_gguf_header(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_a_changed_byte_or_a_cut_gives_a_clear_error_or_another_model(
    valid: Path, tmp_path: Path, draw: st.DataObject
) -> None:
    data = bytearray(valid.read_bytes())
    end = min(t.offset for t in read_gguf_header(valid).tensors.values())
    place = draw.draw(st.integers(0, end - 1))
    data[place] = draw.draw(st.integers(0, 255))
    (tmp_path / "y").write_bytes(data[: draw.draw(st.sampled_from([len(data), place, len(data) - 1]))])
    with np.errstate(all="raise"):
        try:
            GgufSource(tmp_path / "y")
        except StorageError as error:
            assert len(str(error)) < 2000


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.gguf")
    with pytest.raises(SourceError, match="not a regular file"):
        read_gguf_header(tmp_path / "x.gguf")
