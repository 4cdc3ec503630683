import re
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.codec import FIRST, TABLE, CodecContract
from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, bf16_bundle_bytes, capacity_of, find_bad_bundle
from tidemill.storage.codecs.bf16_codes import EXPONENT_BASE_MAX
from tidemill.storage.errors import CorruptDataError, FormatError
from tidemill.storage.manifest import Plane, Table

EVERY = np.arange(1 << 16, dtype=np.uint16)
SEGMENTS = {"output-row": (128, 64), "neuron": (64, 64, 64)}


def table_of(segments: tuple[int, ...], capacity: int) -> Table:
    return Table(
        role="attn_qkv",
        layer=0,
        layout="input-channel",
        element="bf16",
        bundle_count=1 << 16,
        bundle_elements=sum(segments),
        planes=(Plane("bf16-bundles", bf16_bundle_bytes(segments, capacity)),),
        checksum_block_bytes=0,
        segments=segments,
    )


def encoded(bundles: npt.NDArray[np.uint16], table: Table) -> npt.NDArray[np.uint8]:
    """Sealed bundles [N, size]."""
    codec = Bf16BundlesCodec()
    stored = codec.encode(bundles.view(np.uint8), table)[0].stored
    codec.seal(stored, table, TABLE, FIRST)
    return stored.reshape(len(bundles), -1)


def normal(count: int, elements: int, seed: int = 1) -> npt.NDArray[np.uint16]:
    values = np.random.default_rng(seed).standard_normal((count, elements)).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


class TestBf16Bundles(CodecContract):
    codec = Bf16BundlesCodec()

    def table_of(self, layout: Literal["output-row", "neuron"]) -> Table:
        return table_of(SEGMENTS[layout], sum(SEGMENTS[layout]))

    @pytest.mark.parametrize("order", ["rising", "shuffled"])
    def test_every_bit_pattern_comes_back(self, table: Table, order: str) -> None:
        patterns = EVERY if order == "rising" else np.random.default_rng(5).permutation(EVERY)
        count = len(patterns) // table.bundle_elements
        for some in (patterns[: count * table.bundle_elements], patterns[-count * table.bundle_elements :]):
            bundles = some.reshape(count, -1)
            stored = encoded(bundles, table)
            self.codec.check(0, stored.reshape(-1).data, table, count)
            assert np.array_equal(self.codec.join([stored.reshape(-1)], table, 0).view(np.uint16), bundles)

    def test_each_bundle_has_the_base_of_its_own_weights(self, table: Table) -> None:
        exponents = np.array([3, 100, 200])[:, None] + np.arange(table.bundle_elements) % 15
        stored = encoded((exponents << 7 | 1).astype(np.uint16), table)
        n = table.bundle_elements
        assert stored[:, n + n // 2 :].copy().view("<u4")[:, 0].tolist() == [2, 100, 200]

    @pytest.mark.parametrize("what", ["base", "odd base", "first", "falls", "count", "place", "order", "equal"])
    def test_lists_that_kernels_could_not_follow_are_refused_under_a_right_digest(
        self, table: Table, what: str
    ) -> None:
        bundles = self.bundles(table).view(np.uint16)
        stored = encoded(bundles, table)
        n, count = table.bundle_elements, len(table.segments)
        tail = stored[4, n + n // 2 :].view("<u4")
        starts, entries = tail[1 : 2 + count], tail[2 + count :]
        assert starts[1] >= 2, "the case needs two exceptions in the first segment"
        match what:
            case "base":
                tail[0] = EXPONENT_BASE_MAX + 2
            case "odd base":
                tail[0] += 1
            case "first":
                starts[0] = 1
            case "falls":
                starts[1] = starts[2] + 1
            case "count":
                starts[count] = capacity_of(table) + 1
            case "place":
                entries[starts[1] - 1] |= table.segments[0] << 16
            case "order":
                entries[[0, 1]] = entries[[1, 0]]
            case _:
                entries[1] = entries[0]
        self.codec.seal(stored.reshape(-1), table, TABLE, FIRST)
        self.codec.verify(stored.reshape(-1), table, TABLE, FIRST)
        with pytest.raises(CorruptDataError, match="bundle 4 of 7 contradict"):
            self.codec.check(0, stored.reshape(-1).data, table, len(bundles))

    def test_bundles_that_lie_anywhere_are_checked_together(self, table: Table) -> None:
        stored = encoded(self.bundles(table).view(np.uint16), table)
        memory = np.full(1 << 16, 0xFF, np.uint8)
        offsets = np.array([64, 20480, 4096, 50048])
        for offset, bundle in zip(offsets.tolist(), stored, strict=False):
            memory[offset : offset + len(bundle)] = bundle
        assert find_bad_bundle(memory, offsets, table) is None
        assert find_bad_bundle(memory, np.insert(offsets, 2, 8192), table) == 2

    @pytest.mark.parametrize("place", [0, 100, -1])
    def test_a_wrong_byte_anywhere_breaks_the_digest_and_names_the_bundle(self, table: Table, place: int) -> None:
        stored = encoded(normal(5, table.bundle_elements), table)
        stored[3, place] ^= 4
        with pytest.raises(CorruptDataError, match=re.escape(f"bundle {FIRST + 3} of table {TABLE} has digest")):
            self.codec.verify(stored.reshape(-1), table, TABLE, FIRST)

    def test_a_bundle_in_the_place_of_another_is_refused(self, table: Table) -> None:
        stored = encoded(normal(3, table.bundle_elements), table)
        stored[[0, 1]] = stored[[1, 0]]
        with pytest.raises(CorruptDataError, match="digest"):
            self.codec.verify(stored.reshape(-1), table, TABLE, FIRST)

    def test_more_exceptions_than_there_is_room_for_are_an_error(self, table: Table) -> None:
        small = table_of(table.segments, 0)
        exponents = np.arange(table.bundle_elements)[None, :] % 64 + 80
        with pytest.raises(FormatError, match=f"room for {capacity_of(small)}"):
            self.codec.encode((exponents << 7 | 1).astype(np.uint16).view(np.uint8), small)

    def test_exceptions_are_counted(self, table: Table) -> None:
        weights = np.full((4, table.bundle_elements), 0x3F81, np.uint16)
        weights[1, :3], weights[3, -1], weights[2, 5] = 0x0001, 0x7FC0, 0x8000  # the last is a zero
        assert self.codec.encode(weights.view(np.uint8), table)[0].exceptions == 4


def test_a_bundle_is_codes_nibbles_and_a_tail_up_to_a_multiple_of_64() -> None:
    """1 exception: 192 + 96 + 4 + 12 + 4 + 8 = 316 bytes."""
    table = table_of((128, 64), 1)
    assert table.planes[0].bundle_bytes == 320
    assert capacity_of(table) == 2
    weights = np.full((1, 192), 0x3F81, np.uint16)
    weights[0, 130] = 0x0001
    golden = encoded(weights, table)[0]
    # exponent 127 counted from base 126, the highest even one that holds it: 1 << 3; the mantissa is 000 0001
    assert golden[:128].tolist() == [0x08] * 128
    assert golden[192:256].tolist() == [0x11] * 64
    assert golden[288:308].view("<u4").tolist() == [126, 0, 0, 1, 2 << 16 | 1]
    assert golden[308:312].tolist() == [0] * 4
