"""A GGUF file: header, configuration, tokenizer, and rows of its tensors, whose weights are all zero."""

import functools
import os

import gguf
import numpy as np

from tests.fakes.gguf_files import write_gguf
from tests.fuzz.scratch import scratch_directory
from tidemill.storage.convert.gguf_header import read_gguf_header
from tidemill.storage.convert.gguf_source import GgufSource
from tidemill.storage.errors import StorageError

WEIGHTS_BYTES = 4 << 20


@functools.cache
def seeds() -> list[bytes]:
    given = []
    for kind in (gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q6_K):
        path = scratch_directory("gguf") / kind.name
        write_gguf(path, kind)
        end = min(tensor.offset for tensor in read_gguf_header(path).tensors.values())
        given.append(path.read_bytes()[:end])
    return given


def check(data: bytes) -> None:
    path = scratch_directory("gguf") / "x.gguf"
    path.write_bytes(data)
    os.truncate(path, len(data) + WEIGHTS_BYTES)
    try:
        with np.errstate(all="ignore"):
            source = GgufSource(path)
            for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "model.norm.weight"):
                source.rows(name, 0, min(2, source.shape(name)[0]) if len(source.shape(name)) > 1 else 1)
        source.close()
    except StorageError as error:
        assert 0 < len(str(error)) < 4000
