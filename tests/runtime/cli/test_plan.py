"""`tidemill plan` on a tiny model: no process is started."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.cards import write_card
from tests.fakes.layouts import write_blocky_model
from tests.fakes.models import write_tiny_model
from tests.fakes.rates import RATES
from tidemill.runtime.cli.main import app
from tidemill.runtime.cli.plan_basis import parse_rate
from tidemill.runtime.tuning.saved_processes import remember_processes
from tidemill.runtime.tuning.saved_rates import rates_path, save_rates
from tidemill.storage.convert.tables import LayoutChoice


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return directory


def plan(tiny: Path, *arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["plan", "-m", str(tiny), *arguments])
    assert result.exit_code == status, result.output
    return result


def test_people_see_ledger_time_and_curve(tiny: Path) -> None:
    save_rates(rates_path(tiny), RATES)
    out = plan(tiny, "--ram", "1GiB", "--prompt-tokens", "5").stdout
    for word in ("process engine", "KV cache", "arena", "first token", "tok/s", "bottleneck", "ceiling", "█"):
        assert word in out


def test_json_has_ledger_prediction_curve_and_rates(tiny: Path) -> None:
    save_rates(rates_path(tiny), RATES)
    remember_processes({"engine": 70 << 20, "compute": 130 << 20})
    result = json.loads(plan(tiny, "--ram", "1GiB", "-c", "64", "--prompt-tokens", "5", "--json").stdout)
    assert {"name": "process compute", "bytes": 130 << 20} in result["ledger"]
    assert result["ceiling_bytes"] == 1 << 30
    assert result["context"] == 64
    assert result["measured"]
    assert result["assumptions"] == []
    assert result["ring_bytes"] == 0
    assert result["prediction"]["bottleneck"] == "compute"
    assert result["prediction"]["decode_tokens_per_s"] == pytest.approx(1 / result["prediction"]["decode_s_per_token"])
    assert result["curve"][0]["ceiling_bytes"] == result["smallest_ceiling_bytes"]
    assert result["rates"]["dram_bytes_per_s"] == RATES.dram_bytes_per_s


def test_without_measurements_it_says_so_and_marks_what_it_assumes(tiny: Path) -> None:
    result = json.loads(plan(tiny, "--ram", "none", "--json").stdout)
    assert not result["measured"]
    assert result["ceiling_bytes"] is None
    assert any("tidemill tune" in text for text in result["assumptions"])
    assert any("processes" in text for text in result["assumptions"])
    assert "assumed:" in plan(tiny).stdout


def test_a_damaged_measurement_is_named_and_not_used(tiny: Path) -> None:
    save_rates(rates_path(tiny), RATES)
    rates_path(tiny).write_bytes(b"{")
    result = json.loads(plan(tiny, "--json").stdout)
    assert not result["measured"]
    assert "damaged" in result["assumptions"][0]


def test_a_flash_rate_takes_the_place_of_the_measured_one(tiny: Path) -> None:
    save_rates(rates_path(tiny), RATES)
    result = json.loads(plan(tiny, "--flash-rate", "0.8GB/s", "--json").stdout)
    assert [point["bytes_per_s"] for point in result["rates"]["flash"]["points"]] == [0.8e9]
    assert any("0.8GB/s" in text for text in result["assumptions"])


@pytest.mark.parametrize(("text", "rate"), [("0.8GB/s", 800_000_000), ("500MB", 500_000_000), ("1MiB/s", 1 << 20)])
def test_rates_are_sizes_per_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


def test_bad_values_are_refused_with_what_is_accepted(tiny: Path) -> None:
    assert "is no rate" in plan(tiny, "--flash-rate", "fast", status=1).stderr
    assert "leaves no room" in " ".join(plan(tiny, "-c", "64", "--prompt-tokens", "64", status=2).stderr.split())
    assert "needs at least" in plan(tiny, "--ram", "50MiB", status=1).stderr
    assert "accepted: 1 to the model's 512" in plan(tiny, "-c", "100000", status=1).stderr


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of input channels, with a calibration whose card knows topk."""
    directory = tmp_path_factory.mktemp("layouts") / "channels"
    write_blocky_model(directory, LayoutChoice("input-channel", 2))
    write_card(directory, {0.3: 1.1, 0.5: 1.5, 0.7: 8.0})
    return directory


def test_an_exact_plan_of_single_bundles_needs_no_calibration(tmp_path: Path) -> None:
    write_blocky_model(tmp_path / "neurons", LayoutChoice("neuron", 1))
    out = plan(tmp_path / "neurons", "--ram", "1GiB", "-c", "64", "--prompt-tokens", "5").stdout
    for word in ("everything: exact", "mlp", "may stay", "stall", "bottleneck", "ceiling"):
        assert word in out


def test_a_selection_is_planned_with_hits_demands_and_times(channels: Path) -> None:
    flags = ("--ram", "1GiB", "-c", "64", "--prompt-tokens", "5", "--select", "topk", "--sparsity", "0.5")
    result = json.loads(plan(channels, *flags, "--preload", "scaled", "--json").stdout)
    assert result["selection"] == "topk 50%"
    assert [table["role"] for table in result["tables"]] == ["attn_qkv", "attn_out", "mlp_in", "mlp_down"]
    assert result["prediction"]["hit_rate"] == 1.0
    assert result["exact_s_per_token"] > 0
    assert any("--trace" in text for text in result["assumptions"])
    assert "LOSSY topk 50%" in plan(channels, *flags).stdout


def test_the_sparsity_is_found_by_the_floor_on_quality(channels: Path) -> None:
    flags = ("--ram", "1GiB", "-c", "64", "--prompt-tokens", "5", "--select", "topk")
    result = json.loads(plan(channels, *flags, "--min-quality", "1.5", "--among", str(channels), "--json").stdout)
    assert result["sparsity"] == 0.5
    assert "1.5 times" in result["why"]
    assert len(result["ways"]) == 2 * 4  # models × preloads
    assert "perplexity" in plan(channels, *flags, "--sparsity", "auto", "--min-quality", "1.5").stdout


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (("--sparsity", "auto"), 2, "need --select"),
        (("--sparsity", "1.5", "--select", "topk"), 2, "0 to 0.9"),
        (("--sparsity", "0.5", "--select", "topk", "--min-quality", "1.2"), 2, "leave out --sparsity"),
        (("--sparsity", "0.5", "--select", "topk", "--among", "x"), 2, "--among needs"),
        (("--sparsity", "auto", "--select", "topk", "--trace", "x"), 2, "--trace needs"),
        (("--sparsity", "auto", "--select", "topk", "--preload", "scaled"), 2, "leave it out"),
        (("--sparsity", "auto", "--select", "gate"), 1, "layout gate-first"),
        (("--residency", "lru"), 1, "needs a selection"),
    ],
)
def test_flags_without_effect_are_refused(channels: Path, flags: tuple[str, ...], status: int, said: str) -> None:
    assert said in " ".join(plan(channels, *flags, status=status).stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that a ceiling in MiB parts what fits."""
    directory = tmp_path_factory.mktemp("models") / "planes"
    write_tiny_model(directory, codec="bf16-planes", vocab_size=32768, extent_bytes=1 << 16)
    return directory


def test_drafts_are_planned_with_what_they_assume(planes: Path) -> None:
    result = json.loads(plan(planes, "--ram", "none", "--json").stdout)
    assert result["drafts"]["kinds"] == ["ngram", "planes"]
    prediction = result["drafts"]["prediction"]
    assert prediction["kind"] == "planes"
    assert prediction["acceptance"] == 0.93
    assert 1 <= prediction["length"] <= 15
    assert {"name": "drafts", "bytes": 20 * 512 + 16 * 4 * 32768} in result["ledger"]
    assert any("--acceptance says otherwise" in text for text in result["assumptions"])
    assert any("kernels of plane 0" in text for text in result["assumptions"])
    out = plan(planes, "--ram", "none").stdout
    assert "drafts" in out
    assert "with drafts" in out


def test_a_length_and_an_acceptance_that_are_given_are_planned_with(planes: Path) -> None:
    flags = ["--draft", "planes", "--draft-length", "6", "--acceptance", "0.5", "--json"]
    result = json.loads(plan(planes, "--ram", "none", *flags).stdout)
    prediction = result["drafts"]["prediction"]
    assert (prediction["length"], prediction["acceptance"]) == (6, 0.5)
    assert not any("--acceptance" in text for text in result["assumptions"])


def test_without_drafts_nothing_is_said_of_them_but_that(planes: Path) -> None:
    result = json.loads(plan(planes, "--ram", "none", "--draft", "none", "--json").stdout)
    assert result["drafts"] == {"kinds": [], "length": None, "prediction": None}
    assert all(point["drafted_tokens_per_s"] is None for point in result["curve"])
    assert "with drafts" not in plan(planes, "--draft", "none").stdout


def test_a_draft_model_is_planned_beside_the_other(planes: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "small", vocab_size=32768, layers=2, extent_bytes=1 << 16)
    result = json.loads(plan(planes, "--ram", "none", "--draft", f"model:{tmp_path / 'small'}", "--json").stdout)
    assert result["drafts"]["prediction"]["kind"] == "model"
    assert any(line["name"] == "cache and buffers of the draft model" for line in result["ledger"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--draft", "tree"), "auto, none, ngram, planes, model:PATH"),
        (("--draft", "model"), "auto, none, ngram, planes, model:PATH"),
        (("--draft", "none", "--acceptance", "0.5"), "--acceptance needs drafts"),
        (("--draft", "none", "--draft-length", "3"), "--draft-length needs drafts"),
        (("--draft", "model:nowhere"), "there is no model 'nowhere'"),
    ],
)
def test_bad_drafts_are_refused(planes: Path, flags: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["plan", "-m", str(planes), *flags])
    assert result.exit_code != 0
    assert said in " ".join(result.output.replace("│", " ").split())


def test_drafts_of_single_bundles_are_not_predicted(channels: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "-m", str(channels), "--draft", "ngram"])
    assert "layout dense" in " ".join(result.output.replace("│", " ").split())
