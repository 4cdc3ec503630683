import math

import numpy as np
import pytest

from tests.fakes.models import TINY
from tidemill.actors.messages import WindowEvaluated
from tidemill.runtime.quality.scores import ScoreSums


def window(scores: list[list[float]], densities: list[list[float]]) -> WindowEvaluated:
    return WindowEvaluated(1, np.array(scores, "<f8").tobytes(), np.array(densities, "<f8").tobytes(), 0, 0, 0)


def test_windows_weigh_by_their_positions() -> None:
    sums = ScoreSums(TINY, 2)
    assert sums.perplexities() == ()
    sums.add(window([[10, 20.0, 0, 10], [10, 30.0, 5.0, 8]], [[1.0] * 7, [0.5] * 7]))
    sums.add(window([[30, 30.0, 0, 30], [30, 50.0, 3.0, 12]], [[1.0] * 7, [0.1] * 7]))
    exact, lossy = sums.qualities()
    assert sums.positions == exact.positions == 40
    assert exact.perplexity == pytest.approx(math.exp(50 / 40))
    assert sums.perplexities() == pytest.approx((exact.perplexity, lossy.perplexity))
    assert lossy.kl == pytest.approx(8 / 40)
    assert lossy.agreement == pytest.approx(0.5)
    assert lossy.weights_computed == pytest.approx(0.2)
    assert exact.weights_computed == 1.0


def test_operators_weigh_by_their_size() -> None:
    sums = ScoreSums(TINY, 1)
    sums.add(window([[10, 20.0, 0, 10]], [[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]))
    q, whole = 64 * 64, 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 80
    assert sums.qualities()[0].weights_computed == pytest.approx(1 - q / whole)


def test_the_error_comes_from_the_spread_between_windows() -> None:
    sums = ScoreSums(TINY, 1)
    sums.add(window([[10, 20.0, 0, 10]], [[1.0] * 7]))
    assert sums.qualities()[0].perplexity_error is None
    sums.add(window([[10, 24.0, 0, 10]], [[1.0] * 7]))
    (quality,) = sums.qualities()
    assert quality.perplexity_error == pytest.approx(math.exp(2.2) * 0.2)
