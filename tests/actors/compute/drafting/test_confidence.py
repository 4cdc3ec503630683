import numpy as np
import pytest

from tidemill.actors.compute.drafting.confidence import FIRST_SCALES, Confidence


def test_a_token_next_to_another_is_right_half_of_the_time_and_one_far_off_nearly_always() -> None:
    confidence = Confidence("planes")
    assert confidence.chance(0.0) == 0.5
    assert confidence.chance(FIRST_SCALES["planes"]) == pytest.approx(0.731, abs=1e-3)
    assert confidence.chance(1e30) == confidence.chance(float("inf")) == 1.0


@pytest.mark.parametrize("scale", [0.1, 0.4, 2.0])
def test_the_scale_becomes_that_of_the_drafts(scale: float) -> None:
    """Chances come to what is right, at every gap."""
    rng = np.random.default_rng(1)
    confidence = Confidence("planes")
    gaps = rng.exponential(2 * scale, 4000)
    for gap in gaps:
        confidence.observe([gap], int(rng.random() < 1 / (1 + np.exp(-gap / scale))))
    for gap in (0.5 * scale, 2 * scale):
        assert confidence.chance(gap) == pytest.approx(1 / (1 + np.exp(-gap / scale)), abs=0.08)


def test_what_is_behind_a_wrong_token_says_nothing() -> None:
    short, long = Confidence("planes"), Confidence("planes")
    short.observe([1.0, 0.3], 1)
    long.observe([1.0, 0.3, 5.0, 0.1], 1)
    assert short.chance(0.5) == long.chance(0.5) < Confidence("planes").chance(0.5)


@pytest.mark.parametrize("right", [0, 1])
def test_gaps_that_tell_nothing_leave_it_within_bounds(right: int) -> None:
    confidence = Confidence("model")
    for _ in range(2000):
        confidence.observe([5.0], right)
    assert 0.5 < confidence.chance(5.0) <= 1.0
