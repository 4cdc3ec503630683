"""`model.safetensors` beside a right configuration."""

import functools
import json
import struct
from pathlib import Path

from tests.fakes.models import tokenizer_json
from tests.fuzz.scratch import scratch_directory
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.errors import StorageError

CONFIG = {
    "model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 1e4, "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": [2],
}  # fmt: skip
SHAPES = {"model.embed_tokens.weight": (8, 8), "lm_head.weight": (8, 8), "model.norm.weight": (8,)}


@functools.cache
def directory() -> Path:
    path = scratch_directory("safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_bytes(tokenizer_json(8))
    return path


@functools.cache
def seeds() -> list[bytes]:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in SHAPES.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    return [struct.pack("<Q", len(header)) + header + bytes(range(256)) * 2]


def check(data: bytes) -> None:
    (directory() / "model.safetensors").write_bytes(data)
    try:
        source = SafetensorsSource(directory())
        source.rows("model.norm.weight", 0, 1)
        assert source.others(()) is not None
        assert source.source.fingerprint
    except StorageError as error:
        assert str(error)
