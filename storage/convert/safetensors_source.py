"""A Hugging Face directory of safetensors, read by row ranges. The header is checked before anything is believed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import digest
from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.convert.tensor_source import read_exactly
from tidemill.storage.errors import SourceError, UnsupportedModelError
from tidemill.storage.manifest import ELEMENT_BYTES, Element, Source

HEADER_BYTES_MAX = 100 << 20
ELEMENTS: Mapping[str, Element] = {"BF16": "bf16", "F16": "f16", "F32": "f32"}
KEPT_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja",
)  # fmt: skip


class _TensorEntry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Tensor(NamedTuple):
    path: Path
    offset: int
    element: Element
    shape: tuple[int, ...]


class SafetensorsSource:
    """Implements TensorSource. `model.safetensors`, or the shards that `model.safetensors.index.json` names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        config = read_json(directory / "config.json")
        generation = directory / "generation_config.json"
        self.decoder = read_decoder_spec(config, read_json(generation) if generation.exists() else None)
        self._paths = _find_files(directory)
        self._tensors: dict[str, _Tensor] = {}
        for path in self._paths:
            self._tensors.update(_read_header(path))
        self.files = self._read_files()

    @property
    def source(self) -> Source:
        stamps = [(path.name, path.stat().st_size, digest(_header_bytes(path))) for path in self._paths]
        fingerprint = digest(msgspec.json.encode([stamps, sorted((k, digest(v)) for k, v in self.files.items())]))
        return Source(kind="safetensors", name=self._directory.resolve().name, fingerprint=fingerprint, note="")

    def shape(self, name: str) -> tuple[int, ...]:
        return self._get(name).shape

    def element(self, name: str) -> Element:
        return self._get(name).element

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        tensor = self._get(name)
        columns = tensor.shape[-1] if len(tensor.shape) > 1 else tensor.shape[0]
        row_bytes = columns * ELEMENT_BYTES[tensor.element]
        data = read_exactly(tensor.path, tensor.offset + start * row_bytes, (stop - start) * row_bytes)
        return np.frombuffer(data, np.uint8).reshape(stop - start, row_bytes)

    def close(self) -> None:
        """Nothing is held open."""

    def _get(self, name: str) -> _Tensor:
        tensor = self._tensors.get(name) or self._tensors.get("language_model." + name)
        if tensor is None:
            raise SourceError(
                f"{self._directory} has no tensor {name!r}; the checkpoint is incomplete or of another architecture"
            )
        return tensor

    def _read_files(self) -> dict[str, bytes]:
        files = {
            name: (self._directory / name).read_bytes() for name in KEPT_FILES if (self._directory / name).exists()
        }
        if "tokenizer.json" not in files:
            raise SourceError(
                f"{self._directory} has no tokenizer.json; make one with transformers: "
                "AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)"
            )
        return files


def read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SourceError(f"{path} is missing: {path.parent} is no Hugging Face model directory") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def _find_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise SourceError(f"{index} has no weight_map of file names")
        names = sorted(set(weight_map.values()))
        for name in names:
            if os.path.basename(name) != name:
                raise SourceError(f"{index} names {name!r}, expected a plain file name beside it")
            if not (directory / name).exists():
                raise SourceError(f"{directory / name} is missing; {index.name} needs it: download the model again")
        return [directory / name for name in names]
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")):
        raise UnsupportedModelError(
            f"{directory} holds only pickled weights (.bin, .pt); loading those can run any code, so they are "
            "refused. Save the model as "
            "safetensors: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
        )
    raise SourceError(f"{directory} has no model.safetensors, no model.safetensors.index.json and is no GGUF file")


def _header_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    length = int.from_bytes(read_exactly(path, 0, 8), "little")
    if not 2 <= length <= min(HEADER_BYTES_MAX, size - 8):
        raise SourceError(f"{path}: header of {length} bytes in a file of {size}; it is damaged: download it again")
    return read_exactly(path, 8, length)


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Check names, types, shapes and that tensors lie inside the file and do not overlap."""
    header = _header_bytes(path)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(value, type=_TensorEntry) for name, value in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{path}: its header cannot be read: {error}; download it again") from None
    data_start, size = 8 + len(header), path.stat().st_size
    tensors: dict[str, _Tensor] = {}
    end_before = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in ELEMENTS:
            raise UnsupportedModelError(
                f"{path}: tensor {name} has type {entry.dtype}; supported are {', '.join(ELEMENTS)}"
            )
        start, stop = entry.data_offsets
        count = 1
        for dimension in entry.shape:
            count *= dimension
        expected = count * ELEMENT_BYTES[ELEMENTS[entry.dtype]]
        if (
            min(entry.shape, default=0) <= 0
            or stop - start != expected
            or start < end_before
            or data_start + stop > size
        ):
            raise SourceError(
                f"{path}: tensor {name} of shape {entry.shape} has bytes {start}..{stop}, expected {expected} of "
                "them inside the file and "
                "apart from others; the file is damaged: download it again"
            )
        end_before = stop
        tensors[name] = _Tensor(path, data_start + start, ELEMENTS[entry.dtype], entry.shape)
    return tensors
