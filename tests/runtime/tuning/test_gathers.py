from pathlib import Path

import numpy as np
import pytest

from tests.fakes.layouts import write_blocky_model
from tidemill.actors.reader.gathers import GatherCount
from tidemill.runtime.planning.constants import GATHER_BUNDLE_S
from tidemill.runtime.tuning.gathers import Gathered, GatherMeter, fit_gathers, fit_positive
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.read_choices import ReadChoices

CHOICES = ReadChoices(np.array([4096.0, 65536.0]), np.array([20e-6, 60e-6]), max_bytes=1 << 19)


def gathered(reads: int, size: int, bundles: int) -> Gathered:
    """By a machine that takes 1 ms a gather, 10 µs a read, 1 ns a byte, and what a bundle takes."""
    seconds = 1e-3 + reads * 10e-6 + size * 1e-9 + bundles * GATHER_BUNDLE_S
    return Gathered(GatherCount(reads, size, size // 2), bundles, seconds)


def test_costs_that_add_up_are_found_again() -> None:
    done = [gathered(*point) for point in ((1, 4096, 1), (40, 400_000, 40), (10, 900_000, 300), (100, 500_000, 110))]
    found = fit_gathers(done, depth=4)
    assert (found.read_s, found.byte_s, found.bundle_s) == pytest.approx((10e-6, 1e-9, GATHER_BUNDLE_S))
    assert found.depth == 4


def test_no_cost_is_below_nothing() -> None:
    found = fit_positive(np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), np.array([3.0, 2.0, 1.0]))
    assert found == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize("layout", ["input-channel", "neuron"])
def test_a_models_bundles_are_read_verified_and_timed(tmp_path: Path, layout: str) -> None:
    manifest = write_blocky_model(tmp_path / "model", LayoutChoice(layout, 1))  # type: ignore[arg-type]
    meter = GatherMeter(tmp_path / "model", manifest, CHOICES, io_depth=2)
    told: list[float] = []
    found = meter.measure(told.append, seconds=0.0)
    assert len(told) == meter.points
    assert found.seconds(100, 1e6, 100) > 0


def test_a_dense_model_has_nothing_to_measure(tmp_path: Path) -> None:
    manifest = write_blocky_model(tmp_path / "model", LayoutChoice("dense", 1))
    with pytest.raises(ValueError, match="layout dense"):
        GatherMeter(tmp_path / "model", manifest, CHOICES, io_depth=2)
