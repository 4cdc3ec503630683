import msgspec
import numpy as np
import pytest

from tests.fakes.models import TINY
from tests.fakes.tensors import MemorySource
from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, bf16_bundle_bytes, capacity_of
from tidemill.storage.convert import capacity
from tidemill.storage.convert.bundle_reader import BundleReader
from tidemill.storage.convert.capacity import KINDS, count_exceptions, fit_tables, needs_measuring
from tidemill.storage.convert.tables import LayoutChoice, plan_tables
from tidemill.storage.errors import FormatError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Plane

SPEC = msgspec.structs.replace(TINY, head_size=64, hidden_size=256, ff_size=256, layer_count=3, windows=(0, 0, 0))
CHOICES = [LayoutChoice("input-channel", 1), LayoutChoice("input-channel", 2), LayoutChoice("gate-first", 1)]


def wild_source() -> MemorySource:
    """Tensors of many exponents, zeros and powers of two."""
    source = MemorySource(SPEC)
    rng = np.random.default_rng(4)
    for weights in source.weights.values():
        for some, pattern in ((rng.random(weights.shape), 0), (rng.random(weights.shape), 0x8000)):
            weights[some < 0.05] = pattern
        exponents = np.clip(rng.normal(119, 16, weights.shape), 0, 255).astype(np.uint16)
        wild = rng.random(weights.shape) < 0.08
        weights[wild] = (exponents << 7)[wild]
    return source


@pytest.mark.parametrize("choice", CHOICES)
def test_the_room_is_what_the_fullest_bundle_needs(choice: LayoutChoice) -> None:
    source = wild_source()
    planned = plan_tables(source, "auto", None, choice)
    fitted = fit_tables(source, planned, lambda _: None)
    measured = [index for index, table in enumerate(planned) if needs_measuring(table)]
    assert measured
    for index in measured:
        table = fitted[index]
        assert table.planes[0].codec == "bf16-bundles"
        bundles = BundleReader(source, fitted, None).read(TableId(index), 0, table.bundle_count)
        Bf16BundlesCodec().encode(bundles, table)
        tight = table.planes[0].bundle_bytes - 64
        assert tight >= bf16_bundle_bytes(table.segments, 0), "the case needs bundles with exceptions"
        with pytest.raises(FormatError, match="room for"):
            Bf16BundlesCodec().encode(bundles, msgspec.structs.replace(table, planes=(Plane("bf16-bundles", tight),)))


def test_tensors_are_read_once_in_pieces_and_bytes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = wild_source()
    planned = plan_tables(source, "auto", None, CHOICES[1])
    expected = fit_tables(source, planned, lambda _: None)
    monkeypatch.setattr(capacity, "ROWS_BYTES", 20_000)
    monkeypatch.setattr(capacity, "COLUMNS", 100)
    told: list[int] = []
    assert fit_tables(source, planned, told.append) == expected
    assert sum(told) == sum(t.bundle_count * t.bundle_bytes for t in planned if needs_measuring(t))


def test_a_table_whose_bundles_would_not_be_smaller_is_stored_raw() -> None:
    source = MemorySource(SPEC)
    name = "model.layers.1.mlp.down_proj.weight"
    source.weights[name][:, 5] = (np.arange(256) << 7 | 1).astype(np.uint16)  # one wild column
    fitted = fit_tables(source, plan_tables(source, "auto", None, CHOICES[0]), lambda _: None)
    codecs = {(table.role, table.layer): table.planes[0].codec for table in fitted}
    assert codecs["mlp_down", 1] == "raw-bundles"
    assert codecs["mlp_down", 0] == codecs["mlp_in", 1] == "bf16-bundles"


def test_zeros_are_free_and_the_power_of_two_in_their_place_is_not() -> None:
    counts = np.zeros((3, KINDS), np.int64)
    counts[:, 100:116] = 10  # the window begins at 100
    counts[0, 256] = 7
    counts[1, 256 + 100] = 3
    counts[2, 99] = 2
    assert count_exceptions(counts).tolist() == [0, 3, 2]


def test_room_is_rounded_up_to_what_the_size_leaves() -> None:
    source = MemorySource(SPEC)
    table = next(t for t in plan_tables(source, "auto", None, CHOICES[0]) if needs_measuring(t))
    assert capacity_of(table) * 4 < 64
