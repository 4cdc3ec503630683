"""What every codec must do."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.storage.codecs.codec import Codec
from tidemill.storage.errors import CorruptDataError

BUNDLES = np.random.default_rng(3).integers(0, 256, (7, 48), dtype=np.uint8)


class CodecContract:
    codec: Codec

    def decode(self, stored: bytes, size: int) -> bytes:
        out = bytearray(size + 8)
        self.codec.decode(0, memoryview(stored), memoryview(out)[:size])
        assert not any(out[size:]), "wrote past its buffer"
        return bytes(out[:size])

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one suite, several codecs
    @given(data=st.binary(min_size=16, max_size=2048))
    def test_what_is_encoded_is_decoded(self, data: bytes) -> None:
        bundles = np.frombuffer(data[: len(data) // 16 * 16], np.uint8).reshape(-1, 16)
        (stored,) = self.codec.encode(bundles, "bf16")
        assert self.decode(stored.tobytes(), bundles.nbytes) == bundles.tobytes()

    def test_encoding_is_deterministic(self) -> None:
        assert np.array_equal(self.codec.encode(BUNDLES, "bf16")[0], self.codec.encode(BUNDLES.copy(), "bf16")[0])

    def test_planes_add_up_to_the_bundle(self) -> None:
        assert sum(self.codec.plane_bytes("bf16", 48)) == 48

    @pytest.mark.parametrize("wrong", [0, 1, 335, 337, 1 << 20])
    def test_another_size_than_was_stored_is_refused(self, wrong: int) -> None:
        (stored,) = self.codec.encode(BUNDLES, "bf16")
        with pytest.raises(CorruptDataError):
            self.decode(stored.tobytes(), wrong)

    @settings(suppress_health_check=[HealthCheck.differing_executors])
    @given(cut=st.integers(0, 40))
    def test_truncated_bytes_are_refused(self, cut: int) -> None:
        stored = self.codec.encode(BUNDLES, "bf16")[0].tobytes()
        with pytest.raises(CorruptDataError):
            self.decode(stored[:cut], BUNDLES.nbytes)
