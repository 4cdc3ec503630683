import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fakes.checkpoints import write_checkpoint
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.convert.tables import plan_tables
from tidemill.storage.errors import SourceError, UnsupportedModelError


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "m", "smollm2", torch.bfloat16)
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
