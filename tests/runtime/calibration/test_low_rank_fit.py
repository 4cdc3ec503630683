import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.runtime.calibration.low_rank_fit import RIDGE, Moments, weight_of

HIDDEN, FF, RANK = 24, 40, 3
RNG = np.random.default_rng(4)
X = (RNG.standard_normal((600, HIDDEN)) + 0.5).astype(np.float32)
TRUE = RNG.standard_normal((HIDDEN, RANK)) @ RNG.standard_normal((RANK, FF))
Y = (X @ TRUE + RNG.standard_normal(FF)).astype(np.float32)


def moments(pieces: int = 1) -> Moments:
    sums = Moments(HIDDEN, FF)
    for x, y in zip(np.array_split(X, pieces), np.array_split(Y, pieces), strict=True):
        sums.add(x, y)
    return sums


def test_a_map_of_that_rank_is_found_up_to_the_ridge() -> None:
    """The ridge pulls towards the mean by a share of RIDGE: predictions are off by some thousandths of Y's spread."""
    predictor = moments().fit(RANK, RIDGE)
    assert np.abs(predictor.scores(X) - Y).max() < 0.01 * Y.std() * np.sqrt(HIDDEN)


def test_each_rank_more_predicts_no_worse_and_a_lower_one_worse() -> None:
    noisy = moments()
    errors = [float(np.square(noisy.fit(rank, RIDGE).scores(X) - Y).mean()) for rank in range(1, RANK + 1)]
    assert errors[0] > errors[1] > errors[2]


def test_pieces_of_the_text_give_what_the_whole_gives() -> None:
    """f32 sums in another order: 600 roundings of 2⁻²⁴ each, some hundred times larger after the inverse."""
    assert np.allclose(moments(7).fit(RANK, RIDGE).scores(X), moments().fit(RANK, RIDGE).scores(X), atol=0.01)


@pytest.mark.parametrize("rank", [0, HIDDEN + 1])
def test_a_rank_that_the_input_does_not_have_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank is {rank}, accepted: 1 to {HIDDEN}"):
        moments().fit(rank, RIDGE)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_above_0_is_refused(ridge: float) -> None:
    with pytest.raises(ValueError, match=f"ridge is {ridge}"):
        moments().fit(RANK, ridge)


def test_a_fit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was added"):
        Moments(HIDDEN, FF).fit(RANK, RIDGE)


@given(seed=st.integers(0, 1000))
def test_at_full_rank_it_is_least_squares(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((60, 5)).astype(np.float32)
    y = random.standard_normal((60, 4)).astype(np.float32)
    fit = Moments(5, 4)
    fit.add(x[:20], y[:20])
    fit.add(x[20:], y[20:])
    wide = np.append(x, np.ones((60, 1), np.float32), axis=1)
    expected = wide @ np.linalg.lstsq(wide, y, rcond=None)[0]
    assert fit.fit(4, 1e-12).scores(x) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_weight_is_the_root_of_a_magnitude() -> None:
    assert weight_of(np.array([-4.0, 9.0], np.float32)).tolist() == [2.0, 3.0]
