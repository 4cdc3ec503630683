"""A hot set: what another run's trace says is popular."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.fakes.lossy_models import HALF_OF
from tidemill.actors.packing import unpack_ids
from tidemill.runtime.hot_set import read_popularity
from tidemill.runtime.llm import LLM
from tidemill.runtime.options import EngineOptions, check_options
from tidemill.runtime.selection_recorder import trace_header
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.trace.trace_writer import TraceWriter

pytestmark = pytest.mark.slow
PROMPT = [5, 80, 33, 2]


@pytest.fixture(scope="module")
def trace(lossy_models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Position p uses channel p of every input, and channel 0."""
    path = tmp_path_factory.mktemp("trace") / "a.arrow"
    header = trace_header(load_manifest(lossy_models["groups"]), "groups", HALF_OF["groups"], 3)
    with TraceWriter(path, header) as writer:
        for position in range(3, 6):
            for layer in range(header.layer_count):
                for name in header.inputs:
                    writer.add(position, layer, name, np.array([0, position], np.uint32))
    return path


def test_uses_are_counted_by_table_and_layer(lossy_models: Mapping[str, Path], trace: Path) -> None:
    manifest = load_manifest(lossy_models["groups"])
    popularity = read_popularity(manifest, trace)
    assert set(popularity) == {i for i, table in enumerate(manifest.tables) if table.is_self_contained}
    for i, packed in popularity.items():
        table = manifest.tables[i]
        uses = unpack_ids(packed).reshape(table.layers, table.channel_count)
        assert (uses[:, 0] == 3).all()
        assert (uses[:, 3:6] == 1).all()
        assert uses.sum() == 6 * table.layers


def test_a_trace_of_another_model_is_refused(lossy_models: Mapping[str, Path], trace: Path, tmp_path: Path) -> None:
    manifest = load_manifest(lossy_models["groups"])
    header = trace_header(manifest, "other", HALF_OF["groups"], 3)
    with TraceWriter(tmp_path / "b.arrow", type(header)(
        model="other", fingerprint="f", policy="topk", sparsity=0.5, channels={"o": 7}, layer_count=4,
        prompt_positions=3,
    )):  # fmt: skip
        pass
    with pytest.raises(FormatError, match="of another model: 4 layers and 7 channels at o, expected 4 and 128"):
        read_popularity(manifest, tmp_path / "b.arrow")


def test_a_trace_of_neurons_in_another_order_is_refused(lossy_models: Mapping[str, Path], tmp_path: Path) -> None:
    manifest = load_manifest(lossy_models["groups"])
    header = msgspec.structs.replace(trace_header(manifest, "other", HALF_OF["groups"], 3), neuron_order="a1b2")
    with TraceWriter(tmp_path / "b.arrow", header):
        pass
    with pytest.raises(FormatError, match="neurons in an order of digest a1b2, the model stores them in the source's"):
        read_popularity(manifest, tmp_path / "b.arrow")


def test_a_run_keeps_its_hot_set_and_its_bits(lossy_models: Mapping[str, Path], trace: Path) -> None:
    told = []
    for arena in (None, 2_600_000):
        with LLM.open(
            lossy_models["groups"], ram=None, arena=arena, threads=2, launcher="in-process",
            selection=HALF_OF["groups"], residency="hot-set", hot_set=trace,
        ) as llm:  # fmt: skip
            generation = llm.generate(PROMPT, max_tokens=6)
            bundles = generation.summary().bundles
        assert bundles is not None
        told.append([token.logits_checksum for token in generation.tokens])
    assert 0 < bundles.hits < bundles.used
    assert told[0] == told[1]


def test_a_hot_set_and_its_residency_go_together(lossy_models: Mapping[str, Path], trace: Path) -> None:
    options = EngineOptions(
        model=lossy_models["groups"], ram_bytes=None, arena_bytes=None, context=64, threads=1, load_mode="direct",
        launcher="in-process", io_depth=2, selection=HALF_OF["groups"], residency="hot-set", hot_set=trace,
    )  # fmt: skip
    assert check_options(options, explicit_context=True)
    for wrong in (replace(options, hot_set=None), replace(options, residency="lfu")):
        with pytest.raises(ValueError, match="--hot-set TRACE go together"):
            check_options(wrong, explicit_context=True)
