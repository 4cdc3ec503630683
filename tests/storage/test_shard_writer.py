import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.storage.shard_writer import ShardWriter

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


def test_the_worked_example_of_the_format_page_is_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "golden.arrow"
    with ShardWriter(path) as writer:
        offset = writer.append(np.frombuffer(b"tidemill", np.uint8), label="mlp layer 0 plane 0 bundles 0..2")
        size, _ = writer.finish()
    assert (offset, size) == (4096, 4346)
    data = path.read_bytes()
    lines = re.findall(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} )+)", FORMAT.read_text(), re.MULTILINE)
    assert len(lines) == 6
    for at, dump in lines:
        expected = bytes.fromhex(dump)
        assert data[int(at, 16) : int(at, 16) + len(expected)] == expected


@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=6), label=st.text(max_size=30))
def test_every_body_is_aligned_whatever_stands_before_it(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], label: str
) -> None:
    path = tmp_path_factory.mktemp("shard") / "s.arrow"
    with ShardWriter(path) as writer:
        offsets = [writer.append(np.full(size, i + 1, np.uint8), label=label) for i, size in enumerate(sizes)]
        writer.finish()
    data = path.read_bytes()
    for i, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        assert offset % 4096 == 0
        assert data[offset : offset + size] == bytes([i + 1]) * size
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == sizes


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "s.arrow") as writer:
        writer.append(np.zeros(10, np.uint8), label="x")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
