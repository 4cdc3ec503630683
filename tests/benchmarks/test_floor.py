import pytest

from benchmarks.floor import floor_s_per_token


@pytest.mark.parametrize(
    ("ceiling", "flash", "expected"),
    [
        (400, 100.0, 6.0),  # 600 of 1000 bytes are read for each token
        (999, 100.0, 0.5),  # memory is the bound
        (1000, 100.0, 0.5),
        (5000, 100.0, 0.5),
        (None, 100.0, 0.5),
        (400, None, 0.5),  # nobody read from flash: its rate isn't known
    ],
)
def test_the_floor_is_the_slower_of_drive_and_memory(ceiling: int | None, flash: float | None, expected: float) -> None:
    assert floor_s_per_token(1000, ceiling, flash, 2000.0) == expected
