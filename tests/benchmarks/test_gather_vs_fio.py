import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gather_vs_fio import choose, measure_fio, measure_ours, write_bundles

SIZE = 1088


@pytest.fixture
def file(tmp_path: Path) -> Path:
    assert write_bundles(tmp_path / "bundles", SIZE, 4000 * SIZE) == 4000
    return tmp_path / "bundles"


def test_bundles_are_chosen_at_the_density_from_anywhere() -> None:
    ids = choose(100_000, 0.25, 1000, 3)
    assert 900 < len(ids) < 1100
    assert 3500 < ids[-1] - ids[0] <= 4000
    assert ids[-1] < 100_000


def test_every_bundle_is_gathered_and_verified(file: Path) -> None:
    assert measure_ours(file, np.arange(1, 4000, 3), SIZE, 512).bundles_per_s > 0
    with file.open("r+b") as bundles:
        bundles.seek(700 * SIZE)
        bundles.write(b"damaged")
    with pytest.raises(SystemExit, match="bundle 700 of table 3"):
        measure_ours(file, np.arange(1, 4000, 3), SIZE, 512)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
def test_fio_does_the_same_reads(file: Path) -> None:
    found = measure_fio(file, np.arange(0, 4000, 3), SIZE, 4096, 8)
    assert found.bundles_per_s > 0
    assert found.cpu_us > 0
