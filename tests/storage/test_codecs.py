import struct

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.codec import CodecContract, place, table_of
from tidemill.storage.codecs.bf16_codes import EXPONENT_BASE_MAX, exception_share, find_exponent_base
from tidemill.storage.codecs.planes import Bf16PlanesCodec, Fp16PlanesCodec
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.codecs.zstd import ZstdCodec
from tidemill.storage.errors import CorruptDataError, FormatError
from tidemill.storage.manifest import Table

EVERY = np.arange(1 << 16, dtype=np.uint16)


class TestRaw(CodecContract):
    codec = RawCodec()


class TestZstd(CodecContract):
    codec = ZstdCodec()

    def test_garbage_is_refused(self, table: Table) -> None:
        with pytest.raises(CorruptDataError):
            self.codec.decode(0, memoryview(b"\x00" * 64), memoryview(bytearray(336)))

    def test_a_frame_that_claims_a_huge_size_is_refused_without_allocating(self, table: Table) -> None:
        stored = bytearray(self.codec.encode(self.bundles(table), table)[0].stored.tobytes())
        huge = bytes(stored[:4]) + b"\xe0" + struct.pack("<Q", 1 << 60) + bytes(stored[6:])
        with pytest.raises(CorruptDataError, match="claims"):
            self.codec.decode(0, memoryview(huge), memoryview(bytearray(336)))


class TestBf16Planes(CodecContract):
    codec = Bf16PlanesCodec()

    @pytest.mark.parametrize("order", ["rising", "shuffled", "one exponent a row"])
    def test_every_bit_pattern_comes_back(self, table: Table, order: str) -> None:
        """Subnormals, both zeros, infinities and every NaN."""
        patterns = {
            "rising": EVERY,
            "shuffled": np.random.default_rng(5).permutation(EVERY),
            "one exponent a row": EVERY[np.argsort((EVERY >> 7) & 0xFF, kind="stable")],
        }[order]
        count = len(patterns) // table.bundle_elements
        for some in (patterns[: count * table.bundle_elements], patterns[-count * table.bundle_elements :]):
            bundles = some.view(np.uint8).reshape(count, table.bundle_bytes)
            encoded = self.codec.encode(bundles, table)
            planes = place(self.codec, encoded, table, count)
            assert np.array_equal(self.codec.join(planes, table, encoded[0].exponent_base), bundles)

    def test_plane_0_alone_is_within_half_a_step_of_every_weight_but_exceptions(self, table: Table) -> None:
        values = np.random.default_rng(6).standard_normal((5, table.bundle_elements)).astype(np.float32)
        values[1, :9] = [0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30, np.inf, -np.inf, 2.0]
        weights = (values.view(np.uint32) >> 16).astype(np.uint16)
        codes = self.codec.encode(weights.view(np.uint8), table)[0]
        middles = np.array(
            [self.codec.join_coarse([codes.stored], table, codes.exponent_base, i).view(np.uint16) for i in range(5)]
        )
        base = codes.exponent_base
        exponents = (weights >> 7) & 0xFF
        inside = (exponents >= base) & (exponents < base + 16) & ((weights & 0x7FF0) != base << 7)
        assert np.all(np.abs(middles[inside].astype(int) - weights[inside]) <= 8)
        assert inside.mean() > 0.95
        largest = (base + 15) << 7 | 0x78
        expected = [0, 0, largest, 0x8000 | largest, 0, 0, largest, 0x8000 | largest]
        assert middles[1, :8].tolist() == expected
        assert not middles[exponents < base].any()

    def test_normal_weights_take_twelve_bits_and_few_exceptions(self, table: Table) -> None:
        values = np.random.default_rng(1).standard_normal((2000, table.bundle_elements)).astype(np.float32)
        bundles = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        codes, rest = self.codec.encode(bundles, table)
        assert codes.placed_bytes == values.size
        starts_bytes = 4 * (2000 * table.rows_per_bundle + 1)
        exceptions = (rest.placed_bytes - values.size // 2 - starts_bytes) // 4
        assert 0 < exceptions < 0.001 * values.size
        assert exceptions / values.size == pytest.approx(exception_share(bundles.view(np.uint16)), abs=1e-4)

    def test_plane_0_alone_is_within_a_sixteenth(self, table: Table) -> None:
        """The lower 4 bits at the middle of their range: at most half a step of 3 bits off, exceptions aside."""
        values = np.random.default_rng(1).uniform(0.5, 2.0, (8, table.bundle_elements)).astype(np.float32)
        bundles = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        codes, _ = self.codec.encode(bundles, table)
        middle = np.full(codes.placed_bytes // 2, 0x88, np.uint8)
        no_exceptions = np.zeros(8 * table.rows_per_bundle + 1, "<u4").view(np.uint8)
        coarse = self.codec.join([codes.stored, np.concatenate([middle, no_exceptions])], table, codes.exponent_base)
        exact = bf16_values(bundles)
        assert np.all(np.abs(bf16_values(coarse) - exact) <= exact / 16)

    def test_the_base_holds_the_most_weights(self) -> None:
        exponents = np.repeat(np.array([3, 100, 115, 116], np.uint8), [5, 50, 60, 1])
        assert find_exponent_base(exponents) == 100
        assert find_exponent_base(np.array([255], np.uint8)) == EXPONENT_BASE_MAX
        assert find_exponent_base(np.array([0, 0, 0, 90], np.uint8)) == 90

    def test_zeros_are_no_exceptions(self, table: Table) -> None:
        bundles = np.full((4, table.bundle_elements), 0x3F81, np.uint16)
        bundles[:, ::2] = 0
        bundles[:, ::4] = 0x8000
        rest = self.codec.encode(bundles.view(np.uint8), table)[1]
        assert rest.placed_bytes == self.codec.placed_bytes(1, table, 4)[0]

    @pytest.mark.parametrize("damage", ["count", "falls", "place", "order", "first"])
    def test_a_list_of_exceptions_that_contradicts_itself_is_refused(self, table: Table, damage: str) -> None:
        """What a hostile file may hold under a right checksum: kernels follow these numbers."""
        bundles = self.bundles(table)
        rest = self.codec.encode(bundles, table)[1].stored.copy()
        words = rest[len(bundles) * table.bundle_elements // 2 :].view("<u4")
        rows = len(bundles) * table.rows_per_bundle
        match damage:
            case "count":
                words[rows] += 1
            case "falls":
                words[1] = words[2] + 1
            case "place":
                words[rows + 1] |= table.row_elements << 16
            case "order":
                words[[rows + 1, rows + 2]] = words[[rows + 2, rows + 1]]
            case _:
                words[0] = 1
        with pytest.raises(CorruptDataError, match="exceptions"):
            self.codec.check(1, rest.data, table, len(bundles))


class TestFp16Planes(CodecContract):
    codec = Fp16PlanesCodec()
    element = "f16"

    def test_every_bit_pattern_comes_back(self, table: Table) -> None:
        count = len(EVERY) // table.bundle_elements
        for some in (EVERY[: count * table.bundle_elements], EVERY[-count * table.bundle_elements :]):
            bundles = some.view(np.uint8).reshape(count, table.bundle_bytes)
            planes = place(self.codec, self.codec.encode(bundles, table), table, count)
            assert np.array_equal(self.codec.join(planes, table, 0), bundles)

    def test_plane_0_alone_is_within_half_a_step_of_every_weight(self, table: Table) -> None:
        values = np.random.default_rng(6).standard_normal((5, table.bundle_elements)).astype(np.float16)
        upper = self.codec.encode(values.view(np.uint8), table)[0]
        for i in range(5):
            middles = self.codec.join_coarse([upper.stored], table, 0, i).view(np.uint16)
            assert np.all(np.abs(middles.astype(int) - values.view(np.uint16)[i]) <= 0x80)


def bf16_values(bundles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return (bundles.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize(("name", "element", "row", "supported"), [
    ("bf16-planes", "bf16", 64, True), ("bf16-planes", "bf16", 65536, True), ("bf16-planes", "bf16", 65600, False),
    ("bf16-planes", "bf16", 96, False), ("bf16-planes", "f16", 64, False), ("fp16-planes", "f16", 64, True),
    ("fp16-planes", "bf16", 64, False), ("raw", "f32", 7, True),
])  # fmt: skip
def test_which_tables_a_codec_can_store(name: str, element: str, row: int, supported: bool) -> None:
    assert get_codec(name).supports(element, row) is supported  # type: ignore[arg-type]


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        FormatError, match="'lz77' is not known; this version reads raw, zstd, bf16-planes, fp16-planes"
    ):
        get_codec("lz77")


def test_tables_of_neurons_have_three_rows_a_bundle() -> None:
    table = table_of(RawCodec(), "bf16", "neuron", row=128)
    assert (table.rows_per_bundle, table.row_elements) == (3, 128)
