import numba
import numpy as np
import pytest
import xxhash

from tidemill.storage.devices.native.order import aligned_words
from tidemill.storage.devices.native.xxh3 import SHORTEST_BYTES, WORKSPACE_BYTES, xxh3_64
from tidemill.storage.devices.native.xxh3_secret import SECRET

SEEDS = (0, 1, (7 << 32) + 2303, (1 << 63) + 12345, (1 << 64) - 1)


@numba.njit
def call(data: int, count: int, seed: int, secret: int, workspace: int) -> int:
    return xxh3_64(data, count, np.uint64(seed), secret, workspace)


@pytest.fixture(scope="module")
def compiled() -> None:
    """Compiling reads numba's settings again, and what tests before this one left there may not be taken any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_NUM_THREADS", str(numba.config.NUMBA_NUM_THREADS))
        digest_of(np.zeros(32, np.uint8), 0)


def digest_of(data: np.ndarray, seed: int) -> int:  # type: ignore[type-arg]
    secret, workspace = np.frombuffer(SECRET, np.uint8), aligned_words(WORKSPACE_BYTES)
    numbers = data.ctypes.data, len(data), np.uint64(seed), secret.ctypes.data, workspace.ctypes.data
    return int(call(*numbers))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_digests_are_those_of_the_xxhash_package(compiled: None, seed: int) -> None:
    """Around every limit of the algorithm: 16-byte steps, 128, 240, stripes of 64, blocks of 1024; at odd addresses."""
    data = np.random.default_rng(seed % 97).integers(0, 256, 70_000, np.uint8)
    bundles = [size - 8 for size in (896, 1536, 3520, 4672, 5888, 7040, 10496, 18560)]
    for count in [*range(SHORTEST_BYTES, 1200), 2047, 2048, 2049, *bundles, 65536, 65537]:
        for offset in (0, 1):
            part = data[offset : offset + count]
            assert digest_of(part, seed) == xxhash.xxh3_64_intdigest(part.data, seed), (count, offset)
