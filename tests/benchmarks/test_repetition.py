import pytest

from benchmarks.repetition import seen_share


@pytest.mark.parametrize(
    ("prompt", "continuation", "share"),
    [
        ([1, 2, 3], [4, 5, 6], 0.0),
        ([1, 2, 3, 4, 9], [1, 2, 3, 4], 0.25),  # what the prompt holds
        ([8, 9], [1, 2, 3, 1, 2, 3], 0.0),  # no run of 4 twice
        ([7], [5] * 10, 0.6),  # from the fifth on, a run of 4 was there before
        ([5, 5, 5, 5], [5, 5], 1.0),
        ([1], [2], 0.0),
    ],
)
def test_seen_tokens_end_a_run_that_came_before(prompt: list[int], continuation: list[int], share: float) -> None:
    assert seen_share(prompt, continuation, run=4) == share
