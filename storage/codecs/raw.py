"""The identity: stored bytes are the bundles. The reader needs no decoding and reads straight into the slot."""

from collections.abc import Sequence

from tidemill.storage.codecs.codec import Bytes
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Element


class RawCodec:
    name = "raw"

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        return (bundle_bytes,)

    def encode(self, bundles: Bytes, element: Element) -> Sequence[Bytes]:
        return (bundles.reshape(-1),)

    def decode(self, plane: int, stored: memoryview, out: memoryview) -> None:
        if len(stored) != len(out):
            raise CorruptDataError(f"raw extent has {len(stored)} bytes, expected {len(out)}")
        out[:] = stored
