"""A tiny model calibrated once, and what its policies then do on text that it was not calibrated on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.calibrations import calibrate_tiny, random_tokens, window_options
from tests.fakes.models import write_tiny_model
from tidemill.actors.compute.selection.operators import OPERATORS, THINNED_BY, Operator, PolicyName
from tidemill.actors.compute.selection.spec import Allocation, SelectionSpec
from tidemill.runtime.calibration.calibration_file import CalibrationFile
from tidemill.runtime.calibration.policies import build_policy, operator_shares
from tidemill.runtime.calibration.record import Allotment, CalibrationRecord
from tidemill.runtime.engine import Engine
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows

pytestmark = pytest.mark.slow  # some seconds of evaluation behind every test


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(directory, codec="bf16-planes")
    return directory


@pytest.fixture(scope="module")
def record(model: Path) -> CalibrationRecord:
    return calibrate_tiny(model)


def qualities(model: Path, *selections: SelectionSpec) -> list[Quality]:
    """On held-out words; the exact model's first."""
    options = replace(window_options(model), selections=selections)
    with Engine.open(options) as engine:
        sums = ScoreSums(engine.manifest.decoder, 1 + len(selections))
        for _ in evaluate_windows(engine, cut_windows(random_tokens(512, seed=2), 64), sums, ""):
            pass
    return list(sums.qualities())


POLICIES: list[tuple[PolicyName, Allocation]] = [
    ("topk", "uniform"),
    ("topk", "greedy"),
    ("gate", "greedy"),
    ("neuron", "greedy"),
]


def test_every_policy_is_exact_at_sparsity_zero(model: Path, record: CalibrationRecord) -> None:
    selections = [SelectionSpec(policy=policy, sparsity=0.0, allocation=how) for policy, how in POLICIES]
    exact, *others = qualities(model, *selections)
    for quality in others:
        assert quality.kl == 0.0
        assert quality.agreement == 1.0
        assert quality.perplexity == exact.perplexity
        assert quality.weights_computed == 1.0


@pytest.mark.parametrize("sparsity", [0.25, 0.6])
def test_a_policy_leaves_out_what_was_asked_for_on_text_it_has_not_seen(
    model: Path, record: CalibrationRecord, sparsity: float
) -> None:
    """Within 4 points: a threshold is a quantile of 720 positions, and what a lossy model sees is not what was
    recorded of the exact one. That weighs most where gates and ups that lost their inputs make smaller products: the
    greedy allocation is asked for moderate sparsities only."""
    policies = POLICIES if sparsity < 0.5 else [policy for policy in POLICIES if policy != ("topk", "greedy")]
    selections = [SelectionSpec(policy=policy, sparsity=sparsity, allocation=how) for policy, how in policies]
    _, *others = qualities(model, *selections)
    for selection, quality in zip(selections, others, strict=True):
        wanted = dict.fromkeys(OPERATORS, 1.0)
        if selection.policy == "topk":
            wanted |= {o: 1.0 - share for o, share in operator_shares(record.allocation, selection).items()}
        else:
            wanted |= dict.fromkeys(THINNED_BY[selection.policy], 1.0 - sparsity)
        assert dict(quality.densities) == pytest.approx(wanted, abs=0.04), selection.name
        assert quality.kl > 0.0


def test_the_greedy_allocation_is_kept_by_rising_sparsity(record: CalibrationRecord) -> None:
    assert [a.sparsity for a in record.allocation] == pytest.approx([0.05 * (i + 1) for i in range(18)])


def test_predictors_beat_chance_and_know_the_largest_best(record: CalibrationRecord) -> None:
    assert record.rank == 8
    assert len(record.predictors) == 4
    recall = np.mean([quality.recall for quality in record.predictors])
    largest = np.mean([quality.recall_of_largest for quality in record.predictors])
    assert 0.55 < recall < largest <= 1.0


def test_the_card_is_kept_with_the_calibration(model: Path, record: CalibrationRecord) -> None:
    card = CalibrationFile.open(model).record.card
    assert card == record.card
    assert card is not None
    assert card.text == "the last 128 tokens of words"
    assert {entry.selection.split(" ")[0] for entry in card.entries} == {"topk", "gate", "neuron"}
    assert all(entry.perplexity > 1.0 and entry.kl > 0.0 for entry in card.entries)


def test_the_same_text_gives_the_same_file(model: Path, record: CalibrationRecord) -> None:
    path = CalibrationFile.open(model).path
    before = path.read_bytes()
    calibrate_tiny(model)
    assert path.read_bytes() == before


def test_without_predictors_the_neuron_policy_says_how_to_get_them(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    calibrate_tiny(tmp_path / "tiny", rank=0, tokens=256, card_tokens=0)
    calibration = CalibrationFile.open(tmp_path / "tiny")
    assert calibration.record.card is None
    with pytest.raises(ValueError, match=r"no neuron predictors.*--rank above 0"):
        build_policy(calibration, SelectionSpec(policy="neuron", sparsity=0.5))


def test_too_short_a_text_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    with pytest.raises(ValueError, match="1 windows of 64 tokens, at least 2 are needed"):
        calibrate_tiny(tmp_path / "tiny", tokens=64)


def test_a_few_operators_are_thinned_alike_whatever_the_allocation() -> None:
    operators: tuple[Operator, ...] = ("q", "down")
    allocation = (Allotment(0.5, dict.fromkeys(OPERATORS, 0.9)),)
    spec = SelectionSpec(policy="topk", sparsity=0.5, operators=operators)
    assert operator_shares(allocation, spec)["q"] == 0.5
    whole = SelectionSpec(policy="topk", sparsity=0.25)
    assert operator_shares(allocation, whole)["q"] == pytest.approx(0.45)
