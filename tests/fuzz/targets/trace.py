"""A recorded trace."""

import functools

import numpy as np

from tests.fuzz.scratch import scratch_directory
from tidemill.storage.errors import FormatError
from tidemill.storage.trace.header import TraceHeader
from tidemill.storage.trace.trace_reader import TraceReader
from tidemill.storage.trace.trace_writer import TraceWriter

HEADER = TraceHeader(
    model="tiny", fingerprint="f", policy="topk", sparsity=0.5, channels={"qkv": 8, "down": 16}, layer_count=2,
    prompt_positions=3,
)  # fmt: skip


@functools.cache
def seeds() -> list[bytes]:
    path = scratch_directory("trace") / "valid.arrow"
    with TraceWriter(path, HEADER) as trace:
        for position in range(3, 6):
            trace.add(position, 0, "qkv", np.array([0, 7], np.uint32))
            trace.add(position, 1, "down", np.array([2, 9, 15], np.uint32))
    return [path.read_bytes()]


def check(data: bytes) -> None:
    path = scratch_directory("trace") / "x.arrow"
    path.write_bytes(data)
    try:
        with TraceReader(path) as trace:
            for row in trace:
                assert row.layer < trace.header.layer_count
                assert row.selected.size == 0 or int(row.selected[-1]) < trace.header.channels[row.input]
    except FormatError as error:
        assert str(error)
