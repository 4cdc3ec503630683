"""One zstd frame per extent over the raw bytes: for devices slower than the decompressor."""

from collections.abc import Sequence

import numpy as np
import zstandard

from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Table

LEVEL = 3
WINDOW_BYTES_MAX = 8 << 20  # what a hostile frame header may make the decompressor allocate


class ZstdCodec(RawCodec):
    name = "zstd"
    is_identity = False

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        stored = np.frombuffer(compressor.compress(bundles.tobytes()), dtype=np.uint8)
        return (EncodedPlane(stored, bundles.nbytes),)

    def decode(self, plane: int, stored: memoryview, out: memoryview) -> None:
        try:
            claimed = zstandard.frame_content_size(stored)
            if claimed != len(out):
                raise CorruptDataError(f"zstd frame claims {claimed} bytes, expected {len(out)}")
            reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(stored)
            filled = 0
            while filled < len(out) and (got := reader.readinto(out[filled:])):
                filled += got
        except zstandard.ZstdError as error:
            raise CorruptDataError(f"zstd frame of {len(stored)} bytes cannot be decoded: {error}") from None
        if filled != len(out):
            raise CorruptDataError(f"zstd frame ended after {filled} bytes, expected {len(out)}")
