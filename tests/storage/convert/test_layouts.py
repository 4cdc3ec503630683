"""Every layout, group and order: what is stored is the source's tensors, bit for bit."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.fakes.checkpoints import save_checkpoint
from tests.fakes.models import TINY
from tests.fakes.orders import write_trace
from tests.fakes.tensors import MemorySource, Words, expected_bundles
from tidemill.runtime.catalog import describe_model
from tidemill.runtime.cli.main import app
from tidemill.storage.checksums import digest
from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, capacity_of
from tidemill.storage.convert import column_panels
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import fit_tables
from tidemill.storage.convert.convert import convert_model, verify_conversion
from tidemill.storage.convert.neuron_order import NeuronOrder, order_by_frequency, save_orders
from tidemill.storage.convert.tables import LayoutChoice, plan_tables
from tidemill.storage.errors import CorruptDataError, SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import MODEL_LAYER, Manifest, ModelLayout, Role
from tidemill.storage.manifest_file import load_manifest, verify_model
from tidemill.storage.model_writer import write_model
from tidemill.storage.shard_reader import read_permutation, read_table

WIDE = msgspec.structs.replace(TINY, head_size=64, head_count=2, kv_head_count=1, ff_size=128, hidden_size=128)
CHOICES = [
    LayoutChoice("dense", 1),
    LayoutChoice("input-channel", 1),
    LayoutChoice("input-channel", 3),  # of 4 layers: the last group is ragged
    LayoutChoice("input-channel", 9),
    LayoutChoice("gate-first", 1),
    LayoutChoice("neuron", 1),
]
FF = 112
Orders = Mapping[int, npt.NDArray[np.uint32]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hf") / "model"
    save_checkpoint(directory, "smollm2", torch.bfloat16)
    return directory


def weights_of(checkpoint: Path) -> Mapping[str, Words]:
    return {name: t.view(torch.uint16).numpy() for name, t in load_file(checkpoint / "model.safetensors").items()}


def orders_of(layers: list[int], count: int) -> Orders:
    return {layer: np.random.default_rng(layer).permutation(count).astype(np.uint32) for layer in layers}


def write(directory: Path, choice: LayoutChoice, orders: Orders, codec: str = "auto") -> tuple[Manifest, MemorySource]:
    source = MemorySource(WIDE)
    order: NeuronOrder | None = orders.get if orders else None
    tables = fit_tables(source, plan_tables(source, codec, order, choice), lambda count: None)
    manifest = write_model(
        directory,
        decoder=WIDE,
        source=source.source,
        tables=tables,
        read_bundles=BundleReader(source, tables, order).read,
        files={},
        extent_bytes=8192,
        on_bytes=lambda count: None,
    )
    return manifest, source


def assert_is(directory: Path, manifest: Manifest, weights: Mapping[str, Words], orders: Orders) -> None:
    for index, table in enumerate(manifest.tables):
        if table.layer != MODEL_LAYER and table.layout not in ("vector", "permutation"):
            stored = read_table(directory, manifest, TableId(index)).view(np.uint16)
            assert np.array_equal(stored, expected_bundles(weights, table, orders)), (table.role, table.layer)


@pytest.mark.parametrize("codec", ["auto", "raw"])
@pytest.mark.parametrize("layers", [[], [0, 1, 2, 3], [2]])
@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_stored_is_the_source(tmp_path: Path, choice: LayoutChoice, layers: list[int], codec: str) -> None:
    orders = orders_of(layers, WIDE.ff_size)
    manifest, source = write(tmp_path / "m", choice, orders, codec)
    assert load_manifest(tmp_path / "m") == manifest
    assert (manifest.layout, manifest.group) == (choice.layout, min(choice.group, 4))
    assert_is(tmp_path / "m", manifest, source.weights, orders)
    assert verify_model(tmp_path / "m", on_bytes=lambda _: None) == []
    coded = {table.planes[0].codec for table in manifest.tables if table.segments}
    bundles = "raw-bundles" if codec == "raw" else "bf16-bundles"
    assert coded == (set() if choice.layout == "dense" else {bundles})


def test_tables_stand_by_their_first_use_and_only_inputs_alike_across_layers_share_one(tmp_path: Path) -> None:
    manifest, _ = write(tmp_path / "m", LayoutChoice("input-channel", 3), {})
    found = [(table.role, table.layer, table.layers) for table in manifest.tables if table.segments]
    assert found == [
        ("attn_qkv", 0, 3), ("attn_out", 0, 1), ("mlp_in", 0, 3), ("mlp_down", 0, 1),
        ("attn_out", 1, 1), ("mlp_down", 1, 1), ("attn_out", 2, 1), ("mlp_down", 2, 1),
        ("attn_qkv", 3, 1), ("attn_out", 3, 1), ("mlp_in", 3, 1), ("mlp_down", 3, 1),
    ]  # fmt: skip
    assert manifest.get_table("mlp_in", 1) == manifest.get_table("mlp_in", 0) != manifest.get_table("mlp_in", 3)
    for extent in manifest.extents:
        assert extent.bundle_start % manifest.tables[extent.table].layers == 0, "a channel is cut apart"
    table = manifest.tables[manifest.get_table("mlp_in", 2)]
    assert table.bundles_of(np.array([0, 5]), 2).tolist() == [2, 17]


@pytest.mark.parametrize("layers", [[], [1, 2]])
def test_a_model_all_of_whose_tables_are_grouped_is_read_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: list[int]
) -> None:
    roles: tuple[Role, ...] = ("attn_qkv", "attn_out", "mlp_in", "mlp_down")
    monkeypatch.setattr("tidemill.storage.convert.tables.GROUPED_ROLES", roles)
    orders = orders_of(layers, WIDE.ff_size)
    manifest, source = write(tmp_path / "m", LayoutChoice("input-channel", 3), orders)
    assert load_manifest(tmp_path / "m") == manifest
    found = [(table.role, table.layer, table.layers) for table in manifest.tables if table.segments]
    assert found == [(role, first, count) for first, count in ((0, 3), (3, 1)) for role in roles]
    assert_is(tmp_path / "m", manifest, source.weights, orders)


def test_each_layer_of_a_group_has_an_order_of_its_own(tmp_path: Path) -> None:
    orders = orders_of([1, 2], WIDE.ff_size)
    manifest, _ = write(tmp_path / "m", LayoutChoice("input-channel", 3), orders)
    for role in ("mlp_in", "mlp_down"):
        for layer in (1, 2):
            table = manifest.get_table(role, layer)
            assert np.array_equal(read_permutation(tmp_path / "m", manifest, table, layer), orders[layer])
        first = manifest.get_table(role, 0)
        assert np.array_equal(read_permutation(tmp_path / "m", manifest, first, 0), np.arange(WIDE.ff_size))
        assert manifest.tables[manifest.get_table(role, 3)].permutation is None


@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize("choice", CHOICES)
def test_panels_of_any_width_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: LayoutChoice, order: bool
) -> None:
    orders = orders_of([0, 1, 2, 3], WIDE.ff_size) if order else {}
    expected, whole = write(tmp_path / "whole", choice, orders)
    monkeypatch.setattr(column_panels, "PANEL_BYTES_MAX", 10_000)
    monkeypatch.setattr(column_panels, "ROWS_BYTES", 1000)
    got, narrow = write(tmp_path / "narrow", choice, orders)
    assert got == expected
    assert narrow.rows_read > whole.rows_read


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_a_checkpoint_is_converted_and_verified_with_an_order(
    checkpoint: Path, tmp_path: Path, choice: LayoutChoice
) -> None:
    orders = orders_of([0, 2], FF)
    told: list[tuple[int, int]] = []
    convert_model(
        checkpoint,
        tmp_path / "m",
        choice=choice,
        neuron_order=orders.get,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)
    verify_conversion(checkpoint, tmp_path / "m")
    manifest = load_manifest(tmp_path / "m")
    assert "neurons are stored in order" in manifest.source.note
    assert manifest.neuron_order
    assert_is(tmp_path / "m", manifest, weights_of(checkpoint), orders)
    assert verify_model(tmp_path / "m", on_bytes=lambda _: None) == []


def test_a_manifest_tells_orders_of_neurons_apart(tmp_path: Path) -> None:
    orders = orders_of([0, 2], WIDE.ff_size)
    swapped = {0: orders[2], 2: orders[0]}
    dense, neuron = LayoutChoice("dense", 1), LayoutChoice("neuron", 1)
    said = [
        write(tmp_path / str(number), choice, order)[0].neuron_order
        for number, (choice, order) in enumerate([(dense, orders), (neuron, orders), (dense, swapped), (dense, {})])
    ]
    assert said[0] == said[1]
    assert len(set(said)) == 3
    assert said[3] == ""


def killed_in(checkpoint: Path, directory: Path, choice: LayoutChoice, order: NeuronOrder | None) -> None:
    """A conversion that ends after its last shard, before the model gets its name."""
    child = os.fork()
    if child == 0:
        Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]
        convert_model(checkpoint, directory, choice=choice, neuron_order=order)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("change", ["order", "layout", "group"])
def test_what_was_written_with_another_order_or_layout_is_not_gone_on_with(
    checkpoint: Path, tmp_path: Path, change: str
) -> None:
    before, orders = LayoutChoice("input-channel", 2), orders_of([0, 1, 2], FF)
    after: dict[str, LayoutChoice] = {"layout": LayoutChoice("neuron", 1), "group": LayoutChoice("input-channel", 3)}
    other = {**orders, 1: orders[2]} if change == "order" else orders
    killed_in(checkpoint, tmp_path / "m", before, orders.get)
    manifest = convert_model(checkpoint, tmp_path / "m", choice=after.get(change, before), neuron_order=other.get)
    assert_is(tmp_path / "m", manifest, weights_of(checkpoint), other)
    assert manifest == convert_model(
        checkpoint, tmp_path / "again", choice=after.get(change, before), neuron_order=other.get
    )


def test_a_damaged_bundle_is_found_by_its_digest(tmp_path: Path) -> None:
    """As if its extent's checksum had been made right for it."""
    manifest, _ = write(tmp_path / "m", LayoutChoice("input-channel", 1), {})
    extent_id = manifest.extents_of(manifest.get_table("mlp_in", 0))[1]
    extent = manifest.extents[extent_id]
    path = tmp_path / "m" / manifest.shards[0].file
    data = bytearray(path.read_bytes())
    data[extent.offset + 3] ^= 1
    path.write_bytes(data)
    stored = data[extent.offset : extent.offset + extent.stored_bytes]
    changed = msgspec.structs.replace(extent, checksums=(digest(bytes(stored)),))
    forged = msgspec.structs.replace(
        manifest, extents=(*manifest.extents[:extent_id], changed, *manifest.extents[extent_id + 1 :])
    )
    with pytest.raises(CorruptDataError, match=f"bundle {extent.bundle_start} of table"):
        read_table(tmp_path / "m", forged, TableId(extent.table))


@pytest.mark.parametrize(
    ("codec", "layout", "group", "says"),
    [
        ("zstd", "neuron", 1, "bundle by bundle"),
        ("auto", "neuron", 2, "a group of 2 layers in layout neuron"),
        ("auto", "input-channel", 0, "a group of 0"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(codec: str, layout: ModelLayout, group: int, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        plan_tables(MemorySource(WIDE), codec, None, LayoutChoice(layout, group))


@pytest.mark.slow
def test_the_command_converts_and_shows_a_layout(checkpoint: Path, tmp_path: Path) -> None:
    orders = orders_of([0, 1, 2], FF)
    save_orders(tmp_path / "orders", orders)
    flags = ["--layout", "input-channel", "--group", "2", "--order", str(tmp_path / "orders"), "--verify"]
    result = CliRunner().invoke(app, ["convert", str(checkpoint), str(tmp_path / "m"), *flags])
    assert result.exit_code == 0, result.output
    manifest = load_manifest(tmp_path / "m")
    assert (manifest.layout, manifest.group) == ("input-channel", 2)
    assert_is(tmp_path / "m", manifest, weights_of(checkpoint), orders)
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "m")])
    assert "layout input-channel, groups of 2 layers" in shown.stdout


@pytest.mark.slow
def test_the_command_makes_the_order_from_a_trace(checkpoint: Path, tmp_path: Path) -> None:
    selected = np.array([7, 3, 3, 110], np.uint32)
    write_trace(tmp_path / "trace", "down", {1: [[neuron] for neuron in selected.tolist()]}, FF, 3)
    flags = ["--layout", "neuron", "--order", str(tmp_path / "trace"), "--order-by", "frequency"]
    result = CliRunner().invoke(app, ["convert", str(checkpoint), str(tmp_path / "m"), *flags])
    assert result.exit_code == 0, result.output
    order = order_by_frequency(np.bincount(selected, minlength=FF))
    assert order[:3].tolist() == [3, 7, 110]
    assert_is(tmp_path / "m", load_manifest(tmp_path / "m"), weights_of(checkpoint), {1: order})


def test_a_description_tells_exceptions_and_room_of_bundles(tmp_path: Path) -> None:
    manifest, source = write(tmp_path / "m", LayoutChoice("gate-first", 1), {})
    found = {group.role: group for group in describe_model(tmp_path / "m").tables}
    assert (found["mlp_gate"].capacity, found["mlp_updown"].codec) == (None, "bf16-bundles")
    tables = [table for table in manifest.tables if table.role == "mlp_updown"]
    assert found["mlp_updown"].capacity == max(capacity_of(table) for table in tables)
    exceptions = 0
    for table in tables:
        bundles = expected_bundles(source.weights, table, {})
        exceptions += Bf16BundlesCodec().encode(bundles.view(np.uint8), table)[0].exceptions
    assert found["mlp_updown"].exceptions == exceptions > 0
    size = sum(table.planes[0].bundle_bytes * table.bundle_count for table in tables)
    assert found["mlp_updown"].decoded_bytes == size
