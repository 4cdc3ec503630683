"""An evaluation says the same of a selection in the layout that runs it as in the dense one, within rounding."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.calibrations import random_tokens, window_options
from tests.fakes.lossy_models import CHOICES, HALF_OF
from tidemill.runtime.engine import Engine
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows

WINDOW = 48


def qualities(model: Path, name: str) -> list[Quality]:
    options = replace(window_options(model, window=WINDOW), selections=(HALF_OF[name],))
    with Engine.open(options) as engine:
        sums = ScoreSums(engine.manifest.decoder, 2)
        for _ in evaluate_windows(engine, cut_windows(random_tokens(100, seed=3), WINDOW), sums, "test"):
            pass
    return list(sums.qualities())


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
def test_quality_is_that_of_the_dense_layout(lossy_models: Mapping[str, Path], name: str) -> None:
    """Sums run in another order, so that a few channels near a threshold may fall on its other side."""
    exact, lossy = qualities(lossy_models[name], name)
    dense_exact, dense_lossy = qualities(lossy_models["dense"], name)
    assert exact.weights_computed == 1.0
    assert exact.perplexity == pytest.approx(dense_exact.perplexity, rel=1e-5)
    assert lossy.densities == pytest.approx(dense_lossy.densities, abs=2e-3)
    assert lossy.weights_computed == pytest.approx(dense_lossy.weights_computed, abs=1e-3)
    assert lossy.weights_computed < 0.9
    assert lossy.kl == pytest.approx(dense_lossy.kl, rel=0.02)
    assert lossy.kl > 1e-3
