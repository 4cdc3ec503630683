"""What plane 0 loses is told as it is: of weights on a grid, of weights that lie anywhere, of exceptions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.plane_loss import Sums, count_shared, floats, measure
from tests.fakes.checkpoints import save_checkpoint
from tidemill.storage.convert.convert import open_source
from tidemill.storage.convert.gguf_source import to_bf16


def bf16(values: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    return to_bf16(np.asarray(values, np.float32))


def test_a_weight_in_the_middle_of_its_code_loses_nothing_and_one_at_its_end_a_sixteenth() -> None:
    middle, end = Sums(), Sums()
    middle.add(bf16(np.full((4, 64), 1 + 1 / 16)))
    end.add(bf16(np.full((4, 64), -1.0)))
    assert (middle.error_square, middle.product) == (0.0, middle.exact_square)
    assert end.error_square / end.exact_square == 1 / 16**2
    assert end.product / end.exact_square == 1 + 1 / 16


def test_what_exceptions_lose_is_told_apart() -> None:
    piece = bf16(np.where(np.arange(256) == 7, 4.0, 1 / 512).reshape(4, 64))  # most of them, 11 exponents below
    piece[1, :32] = bf16(2.0**-14)  # with these, the highest 16 exponents that hold most do not hold the first
    sums = Sums()
    sums.add(piece)
    assert sums.exceptions == 1
    assert 0.99 < sums.exception_square / sums.error_square < 1


def test_equal_weights_of_a_block_are_counted_and_not_those_of_different_blocks() -> None:
    rows = np.arange(128, dtype=np.uint16).reshape(2, 64)
    rows[1] = rows[0]
    assert count_shared(rows) == 0
    rows[0, :3] = 9
    assert count_shared(rows) == 4  # and the 9 that was there


@pytest.mark.slow
def test_every_kind_of_matrix_has_a_row(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "source", "smollm2", torch.bfloat16)
    source = open_source(tmp_path / "source")
    rows = {row.tensor: row for row in measure(source)}
    assert set(rows) == {f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")} | {"embed_tokens"}
    assert all(0.01 < row.error < 0.04 and row.entropy > 3.9 for row in rows.values())
    weights = floats(source.rows("model.embed_tokens.weight", 0, 4).view(np.uint16))
    assert np.isfinite(weights).all()


@pytest.mark.slow
def test_a_source_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "source", "smollm2", torch.float32)
    with pytest.raises(ValueError, match="is f32, expected bf16"):
        list(measure(open_source(tmp_path / "source")))
