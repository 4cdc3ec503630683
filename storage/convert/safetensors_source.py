"""A Hugging Face directory of safetensors, read by row ranges. The header is checked before anything is believed."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import digest
from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.convert.tensor_source import check_source_file, read_exactly, sample_digest
from tidemill.storage.errors import SourceError, UnsupportedModelError
from tidemill.storage.manifest import ELEMENT_BYTES, Element, Source

HEADER_BYTES_MAX = 100 << 20
TEXT_BYTES_MAX = 256 << 20  # of a configuration or a tokenizer
DIMENSIONS_MAX = 8
ROWS_BYTES = 8 << 20  # of a tensor held at once to compare it
ELEMENTS: Mapping[str, Element] = {"BF16": "bf16", "F16": "f16", "F32": "f32"}
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
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
            self._add(path, _read_header(path))
        self.files = self._read_files()
        self._note = self._untie()

    @property
    def source(self) -> Source:
        stamps = [(path.name, sample_digest(path), digest(_header_bytes(path))) for path in self._paths]
        fingerprint = digest(msgspec.json.encode([stamps, sorted((k, digest(v)) for k, v in self.files.items())]))
        name = self._directory.resolve().name
        return Source(kind="safetensors", name=name, fingerprint=fingerprint, note=self._note)

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

    def others(self, names: Collection[str]) -> list[str]:
        """Rotary frequencies follow from the configuration; a head that is tied is the embedding again."""
        tied = {HEAD} if self.decoder.tied_head else set()
        return sorted(n for n in set(self._tensors) - set(names) - tied if not n.endswith(".rotary_emb.inv_freq"))

    def _add(self, path: Path, tensors: Mapping[str, _Tensor]) -> None:
        twice = sorted(self._tensors.keys() & tensors.keys())
        if twice:
            raise SourceError(f"{path} holds tensor {twice[0]} that another file of the model holds too; keep one")
        self._tensors.update(tensors)

    def _untie(self) -> str:
        """A configuration may claim a tied head while the file holds two different matrices; as in transformers, the
        weights are right. Returns what to note about it."""
        if not self.decoder.tied_head or HEAD not in self._tensors or self._are_equal(HEAD, EMBED):
            return ""
        self.decoder = msgspec.structs.replace(self.decoder, tied_head=False)
        return (
            "the configuration ties the head to the embedding, the checkpoint holds two different ones: both are kept"
        )

    def _are_equal(self, name: str, other: str) -> bool:
        left, right = self._get(name), self._get(other)
        if (left.shape, left.element) != (right.shape, right.element) or len(left.shape) != 2:
            return False
        step = max(1, ROWS_BYTES // (left.shape[1] * ELEMENT_BYTES[left.element]))
        starts = range(0, left.shape[0], step)
        blocks = ((start, min(start + step, left.shape[0])) for start in starts)
        return all(np.array_equal(self.rows(name, *block), self.rows(other, *block)) for block in blocks)

    def _get(self, name: str) -> _Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise SourceError(
                f"{self._directory} has no tensor {name!r}; the checkpoint is incomplete or of another architecture"
            )
        return tensor

    def _read_files(self) -> dict[str, bytes]:
        files = {name: _read_text(self._directory / name) for name in KEPT_FILES if (self._directory / name).exists()}
        if "tokenizer.json" not in files:
            raise SourceError(
                f"{self._directory} has no tokenizer.json; make one with transformers: "
                "AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)"
            )
        return files


def read_json(path: Path) -> dict[str, object]:
    try:
        if not path.exists():
            raise SourceError(f"{path} is missing: {path.parent} is no Hugging Face model directory")
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def _read_text(path: Path) -> bytes:
    return read_exactly(path, 0, check_source_file(path, bytes_max=TEXT_BYTES_MAX))


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
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")) or any(directory.glob("*.bin.index.json")):
        raise UnsupportedModelError(
            f"{directory} holds only pickled weights (.bin, .pt); loading those can run any code, so they are "
            "refused. Save the model as "
            "safetensors: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
        )
    raise SourceError(f"{directory} has no model.safetensors, no model.safetensors.index.json and is no GGUF file")


def _header_bytes(path: Path) -> bytes:
    size = check_source_file(path)
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
        if len(entry.shape) > DIMENSIONS_MAX:  # before they are multiplied, which takes for ever for very many
            raise SourceError(f"{path}: tensor {name} has {len(entry.shape)} dimensions, at most {DIMENSIONS_MAX}")
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
