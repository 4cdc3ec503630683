"""What every codec must do."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.storage.codecs.codec import Codec, EncodedPlane
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ELEMENT_BYTES, Element, Plane, Table

ROW = 64
TABLE, FIRST = TableId(5), 11  # where encoded bundles are said to belong
Bytes = npt.NDArray[np.uint8]


def table_of(codec: Codec, element: Element, layout: Literal["output-row", "neuron"], *, row: int = ROW) -> Table:
    elements = row * (3 if layout == "neuron" else 1)
    sizes = codec.plane_bytes(element, elements * ELEMENT_BYTES[element])
    return Table(
        role="mlp" if layout == "neuron" else "attn_out",
        layer=0,
        layout=layout,
        element=element,
        bundle_count=1 << 16,
        bundle_elements=elements,
        planes=tuple(Plane(codec.name, size) for size in sizes),
        checksum_block_bytes=0,
    )


def place(codec: Codec, encoded: Sequence[EncodedPlane], table: Table, bundles: int) -> list[Bytes]:
    """Each plane as it lies in the arena, checked."""
    planes = []
    for plane, part in enumerate(encoded):
        placed = np.zeros(part.placed_bytes, np.uint8)
        codec.seal(part.stored, table, TABLE, FIRST)
        codec.decode(plane, memoryview(part.stored.tobytes()), placed.data)
        codec.check(plane, placed.data, table, bundles)
        codec.verify(placed, table, TABLE, FIRST)
        least, most = codec.placed_bytes(plane, table, bundles)
        assert least <= part.placed_bytes <= most
        planes.append(placed)
    return planes


class CodecContract:
    codec: Codec
    element: Element = "bf16"

    def bundles(self, table: Table, count: int = 7, seed: int = 3) -> Bytes:
        return np.random.default_rng(seed).integers(0, 256, (count, table.bundle_bytes), dtype=np.uint8)

    def table_of(self, layout: Literal["output-row", "neuron"]) -> Table:
        return table_of(self.codec, self.element, layout)

    @pytest.fixture(params=["output-row", "neuron"])
    def table(self, request: pytest.FixtureRequest) -> Table:
        return self.table_of(request.param)

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one suite, several codecs
    @given(data=st.binary(min_size=384, max_size=4096), layout=st.sampled_from(["output-row", "neuron"]))
    def test_what_is_encoded_is_decoded(self, data: bytes, layout: Literal["output-row", "neuron"]) -> None:
        table = self.table_of(layout)
        count = len(data) // table.bundle_bytes
        bundles = np.frombuffer(data[: count * table.bundle_bytes], np.uint8).reshape(count, table.bundle_bytes)
        encoded = self.codec.encode(bundles, table)
        planes = place(self.codec, encoded, table, count)
        assert np.array_equal(self.codec.join(planes, table, encoded[0].exponent_base), bundles)

    def test_single_bundles_are_those_of_the_run(self, table: Table) -> None:
        bundles = self.bundles(table)
        encoded = self.codec.encode(bundles, table)
        planes = place(self.codec, encoded, table, len(bundles))
        for i, expected in enumerate(bundles):
            got = self.codec.join_bundle(planes, table, encoded[0].exponent_base, i)
            assert np.array_equal(got, expected)

    def test_plane_0_gives_a_bundle_of_its_size_and_the_bundle_where_it_is_alone(self, table: Table) -> None:
        bundles = self.bundles(table)
        encoded = self.codec.encode(bundles, table)
        planes = place(self.codec, encoded, table, len(bundles))
        for i, expected in enumerate(bundles):
            got = self.codec.join_coarse(planes[:1], table, encoded[0].exponent_base, i)
            assert got.shape == expected.shape
            assert len(planes) > 1 or np.array_equal(got, expected)

    def test_encoding_is_deterministic(self, table: Table) -> None:
        bundles = self.bundles(table)
        for one, other in zip(self.codec.encode(bundles, table), self.codec.encode(bundles.copy(), table), strict=True):
            assert np.array_equal(one.stored, other.stored)
            assert one[1:] == other[1:]

    def test_there_is_a_size_for_every_plane(self, table: Table) -> None:
        sizes = self.codec.plane_bytes(self.element, table.bundle_bytes)
        assert len(self.codec.encode(self.bundles(table), table)) == len(sizes) == len(table.planes)
        assert all(size > 0 and (table.is_self_contained or size <= table.bundle_bytes) for size in sizes)

    def test_the_planes_of_a_table_have_the_sizes_of_its_codec(self, table: Table) -> None:
        assert self.codec.planes_rule(table) is None
        wrong = tuple(Plane(plane.codec, plane.bundle_bytes + 1) for plane in table.planes)
        assert self.codec.planes_rule(msgspec.structs.replace(table, planes=wrong)) is not None

    @pytest.mark.parametrize("wrong", [0, 1, -1, 1 << 20])
    def test_another_size_than_was_stored_is_refused(self, table: Table, wrong: int) -> None:
        for plane, part in enumerate(self.codec.encode(self.bundles(table), table)):
            out = bytearray(wrong if wrong in (0, 1 << 20) else part.placed_bytes + wrong)
            with pytest.raises(CorruptDataError):
                self.codec.decode(plane, memoryview(part.stored.tobytes()), memoryview(out))

    @settings(suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(0, 40))
    def test_truncated_bytes_are_refused(self, table: Table, cut: int) -> None:
        for plane, part in enumerate(self.codec.encode(self.bundles(table), table)):
            out = memoryview(bytearray(part.placed_bytes + 8))
            with pytest.raises(CorruptDataError):
                self.codec.decode(plane, memoryview(part.stored.tobytes())[:cut], out[: part.placed_bytes])
            assert not any(out[part.placed_bytes :]), "wrote past its buffer"
