"""The identity: stored bytes are the bundles. The reader needs no decoding and reads straight into the slot."""

from collections.abc import Sequence

from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Element, Table


class RawCodec:
    name = "raw"
    is_identity = True

    def supports(self, element: Element, row_elements: int) -> bool:
        return True

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        return (bundle_bytes,)

    def planes_rule(self, table: Table) -> str | None:
        expected = tuple(self.plane_bytes(table.element, table.bundle_bytes))
        return None if tuple(plane.bundle_bytes for plane in table.planes) == expected else str(expected)

    def placed_bytes(self, plane: int, table: Table, bundles: int) -> tuple[int, int]:
        return bundles * table.bundle_bytes, bundles * table.bundle_bytes

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        return (EncodedPlane(bundles.reshape(-1), bundles.nbytes),)

    def seal(self, stored: Bytes, table: Table, table_id: TableId, first: int) -> None:
        """Bundles have no digests."""

    def verify(self, placed: Bytes, table: Table, table_id: TableId, first: int) -> None:
        """Bundles have no digests."""

    def decode(self, plane: int, stored: memoryview, out: memoryview) -> None:
        if len(stored) != len(out):
            raise CorruptDataError(f"{self.name} extent has {len(stored)} bytes, expected {len(out)}")
        out[:] = stored

    def check(self, plane: int, placed: memoryview, table: Table, bundles: int) -> None:
        """Any bits are weights."""

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        return planes[0][place * table.bundle_bytes : (place + 1) * table.bundle_bytes]

    def join_coarse(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        return self.join_bundle(planes, table, exponent_base, place)

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        return planes[0].reshape(-1, table.bundle_bytes)
