from pathlib import Path

import numpy as np
import pytest

from benchmarks.reader_vs_fio import block_digests, measure_ours

BLOCK = 16384


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blocks"
    path.write_bytes(np.random.default_rng(1).bytes(70 * BLOCK))
    return path


def test_verified_blocks_are_counted(file: Path) -> None:
    digests = block_digests(file, BLOCK, 70 * BLOCK)
    assert measure_ours("staged", file, BLOCK, 2, digests, 0.05) > 0


def test_a_block_that_is_not_what_it_was_ends_the_measurement(file: Path) -> None:
    digests = block_digests(file, BLOCK, 70 * BLOCK)
    digests[5] ^= 1
    with pytest.raises(SystemExit, match="reader_vs_fio"):
        measure_ours("staged", file, BLOCK, 2, digests, 0.5)
