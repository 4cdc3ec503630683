"""`tidemill calibrate` and `tidemill eval` on a tiny model."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fakes.calibrations import random_tokens
from tests.fakes.models import write_tiny_model
from tidemill.runtime.cli.main import app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(f"w{token}" for token in random_tokens(700, seed=5)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    command = ["calibrate", "-m", str(directory), "--text", str(text), "-c", "32", "--rank", "4", "--ram", "none"]
    result = CliRunner().invoke(app, [*command, "--card-tokens", "96"])
    assert result.exit_code == 0, result.output
    for words in ("recording: 100%", "trying predictors", "measuring operators", "measuring quality", "saved in"):
        assert words in result.stderr
    assert "recall" in result.stdout
    return directory


def evaluate(model: Path, text: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    command = ["eval", "-m", str(model), "--text", str(text), "-c", "32", "--launcher", "in-process", "--ram", "none"]
    result = CliRunner().invoke(app, [*command, *arguments])
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def test_without_a_selection_it_measures_the_exact_model(model: Path, text: Path) -> None:
    out, err = evaluate(model, text, "--json")
    result = json.loads(out)
    assert result["lossy"] is False
    assert result["selected"] is None
    assert result["text"]["tokens"] == 700
    assert result["exact"]["positions"] == 700 - 22
    assert "LOSSY" not in err
    assert "evaluating: 100% of 22 windows" in err


def test_a_selection_is_warned_about_and_told_with_its_card(model: Path, text: Path) -> None:
    out, err = evaluate(model, text, "--select", "gate", "--sparsity", "0.5", "--json")
    result = json.loads(out)
    assert result["lossy"] is True
    assert result["selection"]["policy"] == "gate"
    assert 0.4 < result["selected"]["densities"]["up"] < 0.6
    assert result["selected"]["kl"] > 0.0
    assert result["card"]["entries"]
    assert "LOSSY: gate 50%" in err
    assert "Measured at gate 50%: perplexity" in " ".join(err.split())


def test_the_table_names_both_variants(model: Path, text: Path) -> None:
    out, _ = evaluate(model, text, "--select", "topk", "--sparsity", "0.3", "--operators", "q,down", "--tokens", "200")
    assert "exact" in out
    assert "topk 30% q,down" in out
    assert "200 tokens in windows of 32" in out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--sparsity", "0.5"), "needs --select"),
        (("--select", "topk", "--operators", "q,x"), "accepted are q,k,v,o,gate,up,down"),
        (("--select", "neuron", "--operators", "up"), "go together"),
        (("--select", "gate", "--sparsity", "0.95"), "less than or equal to 0.9"),
    ],
)
def test_bad_selections_are_wrong_usage(model: Path, text: Path, arguments: tuple[str, ...], what: str) -> None:
    _, err = evaluate(model, text, *arguments, status=2)
    assert what in " ".join(err.replace("│", " ").split())


def test_a_model_without_calibration_cannot_select(tmp_path: Path, text: Path) -> None:
    write_tiny_model(tmp_path / "bare")
    _, err = evaluate(tmp_path / "bare", text, "--select", "topk", "--sparsity", "0.5", status=1)
    assert "is not calibrated" in err


def test_a_damaged_calibration_is_refused(tmp_path: Path, model: Path, text: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    data = (model / "calibration.safetensors").read_bytes()
    (tmp_path / "tiny" / "calibration.safetensors").write_bytes(data[: len(data) // 2])
    _, err = evaluate(tmp_path / "tiny", text, "--select", "topk", "--sparsity", "0.5", status=1)
    assert "is damaged" in err


def test_text_that_is_no_text_is_wrong_usage(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfd")
    _, err = evaluate(model, tmp_path / "bytes", status=2)
    assert "cannot be read as UTF-8" in " ".join(err.replace("│", " ").split())
