from typing import Literal

import numpy as np
import pytest
import xxhash

from tests.contracts.codec import FIRST, TABLE, CodecContract, table_of
from tidemill.storage.codecs.raw_bundles import RawBundlesCodec, sealed_bytes
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Table


class TestRawBundles(CodecContract):
    codec = RawBundlesCodec()
    element = "f32"

    def table_of(self, layout: Literal["output-row", "neuron"]) -> Table:
        return table_of(self.codec, self.element, layout, row=30)

    def test_a_bundle_ends_in_the_digest_of_all_before_it_seeded_with_its_place(self, table: Table) -> None:
        bundles = self.bundles(table)
        stored = self.codec.encode(bundles, table)[0].stored
        self.codec.seal(stored, table, TABLE, FIRST)
        size = sealed_bytes(table.bundle_bytes)
        third = stored.reshape(-1, size)[2]
        assert np.array_equal(third[: table.bundle_bytes], bundles[2])
        expected = xxhash.xxh3_64_intdigest(third[:-8].tobytes(), (TABLE << 32) + FIRST + 2)
        assert int.from_bytes(third[-8:].tobytes(), "little") == expected
        third[0] ^= 1
        with pytest.raises(CorruptDataError, match=f"bundle {FIRST + 2} "):
            self.codec.verify(stored, table, TABLE, FIRST)


@pytest.mark.parametrize(("content", "expected"), [(56, 64), (57, 128), (120, 128), (1152, 1216)])
def test_a_bundle_is_a_multiple_of_64_bytes(content: int, expected: int) -> None:
    assert sealed_bytes(content) == expected
