import os
from pathlib import Path

import pytest

from tidemill.runtime.tuning.scratch_file import (
    BLOCK_BYTES,
    NoScratchSpaceError,
    plan_scratch_bytes,
    scratch_file,
)


def test_a_scratch_file_is_whole_blocks_within_a_quarter_of_the_free_space(tmp_path: Path) -> None:
    assert plan_scratch_bytes(10 * BLOCK_BYTES, 1000 * BLOCK_BYTES, tmp_path) == 10 * BLOCK_BYTES
    assert plan_scratch_bytes(10 * BLOCK_BYTES, 20 * BLOCK_BYTES, tmp_path) == 5 * BLOCK_BYTES
    assert plan_scratch_bytes(BLOCK_BYTES + 1, 1000 * BLOCK_BYTES, tmp_path) == BLOCK_BYTES


def test_without_space_for_a_block_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoScratchSpaceError, match="free some"):
        plan_scratch_bytes(10 * BLOCK_BYTES, 3 * BLOCK_BYTES, tmp_path)


def test_the_file_has_no_name_and_can_be_opened_again(tmp_path: Path) -> None:
    with scratch_file(tmp_path / "models", BLOCK_BYTES) as (path, size):
        assert os.listdir(tmp_path / "models") == []
        assert path.stat().st_size == size == BLOCK_BYTES
        with path.open("rb") as again:
            assert len(set(again.read(4096))) > 200  # random
    assert not path.exists()


def test_it_is_gone_after_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_file(tmp_path, BLOCK_BYTES) as (path, _):
        raise KeyboardInterrupt
    assert not path.exists()
    assert os.listdir(tmp_path) == []
