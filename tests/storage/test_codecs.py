import struct

import pytest

from tests.contracts.codec import BUNDLES, CodecContract
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.codecs.zstd import ZstdCodec
from tidemill.storage.errors import CorruptDataError, FormatError


class TestRaw(CodecContract):
    codec = RawCodec()


class TestZstd(CodecContract):
    codec = ZstdCodec()

    def test_garbage_is_refused(self) -> None:
        with pytest.raises(CorruptDataError):
            self.decode(b"\x00" * 64, 336)

    def test_a_frame_that_claims_a_huge_size_is_refused_without_allocating(self) -> None:
        stored = bytearray(self.codec.encode(BUNDLES, "bf16")[0].tobytes())
        huge = bytes(stored[:4]) + b"\xe0" + struct.pack("<Q", 1 << 60) + bytes(stored[6:])
        with pytest.raises(CorruptDataError, match="claims"):
            self.decode(huge, BUNDLES.nbytes)


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    with pytest.raises(FormatError, match="'lz77' is not known; this version reads raw, zstd"):
        get_codec("lz77")
