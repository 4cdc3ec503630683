"""`config.json`, `generation_config.json` and `model.safetensors.index.json` of a source: the first byte says which."""

import functools
import json
import shutil
from pathlib import Path

from tests.fuzz.scratch import scratch_directory
from tests.fuzz.targets import safetensors_file
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.errors import StorageError

INDEX = {"weight_map": dict.fromkeys(safetensors_file.SHAPES, "part.safetensors")}
TEXTS = {
    "config.json": json.dumps(safetensors_file.CONFIG).encode(),
    "generation_config.json": json.dumps({"eos_token_id": [2, 3], "bos_token_id": 1}).encode(),
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
}


@functools.cache
def directory() -> Path:
    path = scratch_directory("config")
    shutil.copy(safetensors_file.directory() / "tokenizer.json", path)
    (path / "part.safetensors").write_bytes(safetensors_file.seeds()[0])
    return path


def seeds() -> list[bytes]:
    return [bytes([choice]) + text for choice, text in enumerate(TEXTS.values())]


def check(data: bytes) -> None:
    if not data:
        return
    chosen = list(TEXTS)[data[0] % len(TEXTS)]
    for name, text in TEXTS.items():
        (directory() / name).write_bytes(data[1:] if name == chosen else text)
    try:
        SafetensorsSource(directory())
    except StorageError as error:
        assert 0 < len(str(error)) < 4000
