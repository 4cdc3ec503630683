"""`tidemill tune` on a small scratch file or a tiny model, with DRAM and kernels as saved before."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from tests.fakes.models import write_tiny_model
from tests.fakes.rates import RATES
from tidemill.runtime.catalog import models_directory
from tidemill.runtime.cli.main import app
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.tuning.flash import DEPTHS, REQUEST_SIZES
from tidemill.runtime.tuning.saved_rates import find_rates, rates_path, save_rates

QUICK = ("--flash-only", "--scratch", "4MiB", "--point-seconds", "0.001")


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = rates_path(models_directory())
    save_rates(path, RATES)
    return path


def tune(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["tune", *arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
def test_flash_is_measured_on_a_scratch_file_that_leaves_nothing_and_the_rest_is_kept() -> None:
    rates = msgspec.json.decode(tune(*QUICK, "--json").stdout, type=MachineRates)
    measured = {(point.request_bytes, point.depth) for point in rates.flash.points}
    assert measured == {(size, depth) for size in REQUEST_SIZES for depth in DEPTHS}
    assert rates.flash.source == "a scratch file of 4 MiB"
    assert rates.dram_bytes_per_s == RATES.dram_bytes_per_s
    assert find_rates(models_directory()).rates == rates
    assert list(models_directory().iterdir()) == []


@pytest.mark.slow
def test_people_get_a_table_on_stdout_and_progress_on_stderr() -> None:
    result = tune(*QUICK)
    assert "4.0 MiB" in result.stdout
    assert "GFLOP/s" in result.stdout
    assert "measuring flash" in result.stderr
    assert "saved in" in result.stderr


def test_show_prints_what_is_saved_and_measures_nothing() -> None:
    result = tune("--show", "--json")
    assert result.stderr == ""
    assert msgspec.json.decode(result.stdout, type=MachineRates) == RATES
    assert "bf16 20.0 GB/s" in tune("--show").stdout


def test_show_without_a_measurement_says_how_to_get_one(saved: Path) -> None:
    saved.unlink()
    assert "measure with: tidemill tune" in tune("--show", status=1).stderr


def test_a_damaged_measurement_is_named(saved: Path) -> None:
    saved.write_bytes(b"{")
    shown = " ".join(tune("--show", status=1).stderr.split())
    assert saved.name in shown.replace(" ", "")
    assert "damaged" in shown


def test_flash_alone_needs_the_rest_to_be_saved(saved: Path) -> None:
    saved.unlink()
    assert "leave it out" in tune(*QUICK, status=1).stderr


def test_a_model_with_too_small_shards_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    assert "no file of 4194304 bytes" in tune(*QUICK, "-m", str(tmp_path / "tiny"), status=1).stderr


def test_more_threads_than_cores_are_refused() -> None:
    assert "cores" in tune("-t", "100000", status=2).stderr
