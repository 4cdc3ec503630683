import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.fakes.checkpoints import save_checkpoint
from tidemill.storage.convert.convert import convert_model
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.convert.tables import plan_tables
from tidemill.storage.errors import (
    SourceError,
    StorageError,
    UnsupportedModelError,
)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "m", "smollm2", torch.bfloat16)
    return tmp_path / "m"


def add(directory: Path, **tensors: torch.Tensor) -> None:
    path = directory / "model.safetensors"
    save_file({**load_file(path), **tensors}, path)


def test_rows_are_the_stored_bits(tied: Path) -> None:
    source = SafetensorsSource(tied)
    stored = load_file(tied / "model.safetensors")["model.embed_tokens.weight"].view(torch.uint16).numpy()
    assert np.array_equal(source.rows("model.embed_tokens.weight", 3, 9).view(np.uint16), stored[3:9])


def test_a_tied_head_that_is_stored_too_is_the_embedding(tied: Path) -> None:
    embed = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    add(tied, **{"lm_head.weight": embed.clone()})
    source = SafetensorsSource(tied)
    assert (source.decoder.tied_head, source.source.note) == (True, "")
    assert plan_tables(source, "raw", None)[-1].role == "embed"


def test_a_head_that_differs_from_the_embedding_is_kept_whatever_the_configuration_says(tied: Path) -> None:
    head = load_file(tied / "model.safetensors")["model.embed_tokens.weight"].clone()
    head[-1, -1] += 1
    add(tied, **{"lm_head.weight": head})
    source = SafetensorsSource(tied)
    assert source.decoder.tied_head is False
    assert "two different ones" in source.source.note
    assert plan_tables(source, "raw", None)[-1].role == "head"


def test_a_tensor_in_two_files_is_refused(tied: Path) -> None:
    tensors = load_file(tied / "model.safetensors")
    (tied / "model.safetensors").rename(tied / "a.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, tied / "b.safetensors")
    index = {"weight_map": {**dict.fromkeys(tensors, "a.safetensors"), "model.norm.weight": "b.safetensors"}}
    (tied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"b\.safetensors holds tensor model\.norm\.weight that another"):
        SafetensorsSource(tied)


def test_a_file_outside_the_directory_is_not_followed(tied: Path) -> None:
    (tied / "model.safetensors").rename(tied / "a.safetensors")
    (tied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    with pytest.raises(SourceError, match="expected a plain file name"):
        SafetensorsSource(tied)


def test_a_tensor_of_very_many_dimensions_is_refused_at_once(tied: Path) -> None:
    entry = {"dtype": "F32", "shape": [2**62] * 300_000, "data_offsets": [0, 4]}
    raw = json.dumps({"x": entry}).encode()
    (tied / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    with pytest.raises(SourceError, match="300000 dimensions, at most 8"):
        SafetensorsSource(tied)


def test_another_training_of_the_same_model_is_another_source(tied: Path, tmp_path: Path) -> None:
    """Same header, sizes and configuration: a resumed conversion must not go on with the other's shards."""
    other = Path(shutil.copytree(tied, tmp_path / "n"))
    before = SafetensorsSource(tied).source.fingerprint
    assert SafetensorsSource(other).source.fingerprint == before
    add(other, **{n: t * 1.5 for n, t in load_file(other / "model.safetensors").items()})
    assert SafetensorsSource(other).source.fingerprint != before


@pytest.mark.parametrize("left", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_what_is_left_of_a_pickled_model_is_told(tied: Path, left: str) -> None:
    (tied / "model.safetensors").unlink()
    (tied / left).write_text("{}")
    with pytest.raises(UnsupportedModelError, match="can run any code"):
        SafetensorsSource(tied)


def test_a_model_without_tokenizer_says_how_to_make_one(tied: Path) -> None:
    (tied / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"no tokenizer\.json; make one.*save_pretrained"):
        SafetensorsSource(tied)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00", "[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(tied: Path, content: str) -> None:
    (tied / "config.json").write_text(content)
    with pytest.raises(SourceError, match=r"config\.json"):
        SafetensorsSource(tied)


def rewrite_header(path: Path, change: object) -> None:
    """Apply a function to the header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)  # type: ignore[operator]
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


@pytest.mark.slow
def test_indexed_shards_are_read_like_a_single_file(copy: Path, tmp_path: Path) -> None:
    expected = convert_model(copy, tmp_path / "single")
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name].clone() for name in part}, copy / file)
        weight_map.update(dict.fromkeys(part, file))
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert [e.checksums for e in convert_model(copy, tmp_path / "indexed").extents] == [
        e.checksums for e in expected.extents
    ]
    (copy / "model-1.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model-1.safetensors is missing"):
        convert_model(copy, tmp_path / "broken")


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path, checkpoint: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match=r"can run any code.*save_pretrained"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda h: h.pop("model.norm.weight"), SourceError, "no tensor 'model.norm.weight'"),
        (lambda h: h["model.norm.weight"].update(shape=[2, 32]), SourceError, r"shape \[2, 32\].*makes it \[64\]"),
        (lambda h: h["model.norm.weight"].update(shape=[-64]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(dtype="F8_E4M3"), UnsupportedModelError, "BF16, F16, F32"),
        (lambda h: h["model.norm.weight"].update(data_offsets=[0, 128]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(data_offsets=[1 << 40, (1 << 40) + 128]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(data_offsets=["a", "b"]), SourceError, "cannot be read"),
        (lambda h: h.update({"x": 3}), SourceError, "cannot be read"),
    ],
)
def test_a_damaged_safetensors_header_is_refused(
    copy: Path, tmp_path: Path, change: object, error: type[Exception], says: str
) -> None:
    rewrite_header(copy / "model.safetensors", change)
    with pytest.raises(error, match=says):
        convert_model(copy, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64), length=st.integers(0, 1 << 63))
def test_any_bytes_as_safetensors_are_a_clear_error(checkpoint: Path, tmp_path: Path, data: bytes, length: int) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    for content in (data, struct.pack("<Q", length) + data):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(StorageError):
            SafetensorsSource(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_source_s_file_that_is_none_is_not_waited_for(tied: Path, name: str) -> None:
    (tied / name).unlink(missing_ok=True)
    os.mkfifo(tied / name)
    with pytest.raises(SourceError, match=f"{name} is not a regular file"):
        SafetensorsSource(tied)


def test_a_huge_text_is_refused_before_it_is_read(tied: Path) -> None:
    os.truncate(tied / "tokenizer.json", 1 << 40)
    with pytest.raises(SourceError, match="has 1099511627776 bytes, at most"):
        SafetensorsSource(tied)
