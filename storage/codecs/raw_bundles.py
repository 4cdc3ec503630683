"""Self-contained bundles of elements as in the source: elements, padding of zeros, digest; a multiple of 64 bytes."""

from collections.abc import Sequence

import numpy as np

from tidemill.storage.codecs.bundle_digest import DIGEST_BYTES, seal_bundles, verify_bundles
from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Element, Table

BUNDLE_ALIGNMENT_BYTES = 64  # a cache line: kernels load whole vectors of any bundle, wherever it lies


def sealed_bytes(content_bytes: int) -> int:
    """Bytes of a bundle of so much content, with padding and digest."""
    return -(-(content_bytes + DIGEST_BYTES) // BUNDLE_ALIGNMENT_BYTES) * BUNDLE_ALIGNMENT_BYTES


class RawBundlesCodec(RawCodec):
    name = "raw-bundles"

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        return (sealed_bytes(bundle_bytes),)

    def placed_bytes(self, plane: int, table: Table, bundles: int) -> tuple[int, int]:
        size = bundles * table.planes[0].bundle_bytes
        return size, size

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        stored = np.zeros((len(bundles), table.planes[0].bundle_bytes), np.uint8)
        stored[:, : table.bundle_bytes] = bundles
        return (EncodedPlane(stored.reshape(-1), stored.nbytes),)

    def seal(self, stored: Bytes, table: Table, table_id: TableId, first: int) -> None:
        seal_bundles(stored.reshape(-1, table.planes[0].bundle_bytes), table_id, first)

    def verify(self, placed: Bytes, table: Table, table_id: TableId, first: int) -> None:
        size = table.planes[0].bundle_bytes
        count = len(placed) // size
        verify_bundles(placed.data, np.arange(count) * size, size, table_id, range(first, first + count))

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        start = place * table.planes[0].bundle_bytes
        return planes[0][start : start + table.bundle_bytes]

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        bundles = planes[0].reshape(-1, table.planes[0].bundle_bytes)[:, : table.bundle_bytes]
        return np.ascontiguousarray(bundles)
