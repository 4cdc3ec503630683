import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fakes.checkpoints import save_checkpoint
from tidemill.storage.convert import column_panels
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.convert.tables import plan_tables
from tidemill.storage.errors import SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Element

FF, HIDDEN = 112, 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hf") / "model"
    save_checkpoint(directory, "smollm2", torch.bfloat16)
    return directory


class Counting:
    """A source that counts the rows that are read of each tensor."""

    def __init__(self, source: SafetensorsSource) -> None:
        self._source = source
        self.decoder, self.source, self.files = source.decoder, source.source, source.files
        self.rows_read: Counter[str] = Counter()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)

    def element(self, name: str) -> Element:
        return self._source.element(name)

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        self.rows_read[name] += stop - start
        return self._source.rows(name, start, stop)

    def others(self, names: Collection[str]) -> list[str]:
        return self._source.others(names)

    def close(self) -> None: ...


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("panels", [1, 3])
def test_neurons_are_gathered_from_few_reads_in_any_order(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, permuted: bool, panels: int
) -> None:
    monkeypatch.setattr(column_panels, "PANEL_BYTES_MAX", -(-FF // panels) * HIDDEN * 2)
    order = np.random.default_rng(3).permutation(FF).astype(np.uint32)
    neuron_order = (lambda layer: order) if permuted else None
    source = Counting(SafetensorsSource(checkpoint))
    tables = plan_tables(source, "raw", neuron_order)
    index = next(i for i, table in enumerate(tables) if (table.role, table.layer) == ("mlp", 1))
    reader = BundleReader(source, tables, neuron_order)
    got = np.concatenate([reader.read(TableId(index), i, min(FF, i + 5)) for i in range(0, FF, 5)]).view(np.uint16)
    weights = {name: t.view(torch.uint16).numpy() for name, t in load_file(checkpoint / "model.safetensors").items()}
    gate, up, down = (weights[f"model.layers.1.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    neurons = np.concatenate([gate, up, down.T], axis=1)
    assert np.array_equal(got, neurons[order] if permuted else neurons)
    assert source.rows_read["model.layers.1.mlp.down_proj.weight"] == panels * HIDDEN
    assert source.rows_read["model.layers.1.mlp.gate_proj.weight"] == FF


@pytest.mark.parametrize("order", [np.zeros(FF, np.uint32), np.arange(FF - 1, dtype=np.uint32)])
def test_an_order_that_is_no_permutation_is_refused(checkpoint: Path, order: npt.NDArray[np.uint32]) -> None:
    source = SafetensorsSource(checkpoint)
    tables = plan_tables(source, "raw", lambda layer: order)
    with pytest.raises(SourceError, match="not a permutation of its 112 neurons"):
        BundleReader(source, tables, lambda layer: order).read(TableId(0), 0, 1)


def with_tensor(checkpoint: Path, directory: Path, name: str, tensor: torch.Tensor) -> SafetensorsSource:
    shutil.copytree(checkpoint, directory)
    path = directory / "model.safetensors"
    save_file({**load_file(path), name: tensor}, path)
    return SafetensorsSource(directory)


def test_a_tensor_that_the_decoder_would_leave_out_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    source = with_tensor(checkpoint, tmp_path / "m", name, torch.zeros(64, dtype=torch.bfloat16))
    with pytest.raises(SourceError, match=f"1 tensors that are no part of a llama decoder.*{name}"):
        plan_tables(source, "raw", None)


def test_rotary_frequencies_of_old_checkpoints_are_no_weights(checkpoint: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert plan_tables(with_tensor(checkpoint, tmp_path / "m", name, torch.zeros(8)), "raw", None)


def test_types_that_differ_inside_a_table_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    source = with_tensor(checkpoint, tmp_path / "m", name, torch.zeros(32, 64, dtype=torch.float16))
    with pytest.raises(SourceError, match=r"different types \['bf16', 'f16'\]"):
        plan_tables(source, "raw", None)
