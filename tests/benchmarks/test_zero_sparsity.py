import pytest

from benchmarks.zero_sparsity import summarise


def test_overheads_are_those_of_a_rounds_pair() -> None:
    """The second round ran on a machine that was twice as slow: its pair says the same as the first's."""
    found = summarise("topk", "m", [(0.10, 0.11), (0.20, 0.22), (0.10, 0.14)], tokens=8)
    assert (found.overhead, found.least, found.most) == pytest.approx((0.1, 0.1, 0.4))
    assert (found.exact_s_per_token, found.selecting_s_per_token) == pytest.approx((0.10, 0.14))
    assert (found.rounds, found.tokens) == (3, 8)
