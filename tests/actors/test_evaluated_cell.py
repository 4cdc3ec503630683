"""Windows of text in every layout: what an evaluation compares are the logits that decoding has, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.cells import FakeCell
from tests.fakes.layouts import BLOCKY, write_blocky_model
from tests.fakes.resident import logits_of, resident_decoder
from tests.fakes.selections import EVERYTHING, HALF
from tidemill.actors.compute.logit_comparison import SCORES, LogitComparison
from tidemill.actors.compute.selection.operators import OPERATORS, OPERATORS_OF
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.messages import WindowEvaluated
from tidemill.storage.arena_plan import plan_arena
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest_file import load_manifest

TEXT = [5, 80, 33, 2, 61, 17, 9, 40, 71]
LAYOUTS = {
    "dense": (LayoutChoice("dense", 1), ["topk, all apart", "gate", "neuron"]),
    "channels": (LayoutChoice("input-channel", 1), ["topk, an input alike", "topk, all apart"]),
    "groups": (LayoutChoice("input-channel", 3), ["topk, an input alike", "topk, all apart"]),
    "gates": (LayoutChoice("gate-first", 1), ["gate"]),
    "neurons": (LayoutChoice("neuron", 1), ["neuron"]),
}
CASES = [(name, policy) for name, (_, policies) in LAYOUTS.items() for policy in policies]
F64 = np.dtype("<f8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    for name, (choice, _) in LAYOUTS.items():
        write_blocky_model(root / name, choice)
    return {name: root / name for name in LAYOUTS}


def evaluated(model: Path, policy: SelectionPolicy) -> tuple[np.ndarray, np.ndarray]:
    """Scores and densities of the exact model and the policy's."""
    cell = FakeCell(model, plan_arena(load_manifest(model), 1 << 40), seed=2, policy=policy, window=len(TEXT))
    message = cell.evaluate(TEXT)
    assert isinstance(message, WindowEvaluated), f"{cell}: {message}"
    scores = np.frombuffer(message.scores, F64).reshape(2, len(SCORES))
    return scores, np.frombuffer(message.densities, F64).reshape(2, len(OPERATORS))


def decoded(model: Path, policy: SelectionPolicy | None) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Logits, one token after the other, as a run decodes them."""
    decoder = resident_decoder(model, selects=True)
    steps = [logits_of(decoder, [token], at, want="last", policy=policy) for at, token in enumerate(TEXT)]
    return np.concatenate(steps)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), CASES)
def test_scores_are_those_of_decoded_logits(models: dict[str, Path], layout: str, name: str) -> None:
    model, policy = models[layout], HALF[name](BLOCKY)
    scores, _ = evaluated(model, policy)
    exact, lossy = decoded(model, None)[:-1], decoded(model, policy)[:-1]
    comparison = LogitComparison(2, np.array(TEXT[1:], np.int64))
    manifest = load_manifest(model)
    for extent in {manifest.extents[i].bundle_start: manifest.extents[i] for i in manifest.head_extents}.values():
        rows = slice(extent.bundle_start, extent.bundle_stop)
        comparison.add(extent.bundle_start, 0, exact[:, rows], [lossy[:, rows]])
    assert np.array_equal(scores, comparison.scores())
    assert scores[1, 2] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), CASES)
def test_densities_are_those_of_the_dense_layout(models: dict[str, Path], layout: str, name: str) -> None:
    """Sums run in another order there: a few channels near a threshold may fall on its other side."""
    policy = HALF[name](BLOCKY)
    _, densities = evaluated(models[layout], policy)
    thinned = [OPERATORS.index(operator) for kind in policy.kinds for operator in OPERATORS_OF[kind]]
    whole = [place for place in range(len(OPERATORS)) if place not in thinned]
    assert np.array_equal(densities[0], np.ones(len(OPERATORS)))
    assert np.array_equal(densities[1, whole], np.ones(len(whole)))
    assert (densities[1, thinned] < 1).all()
    assert densities[1] == pytest.approx(evaluated(models["dense"], policy)[1][1], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_selected_is_the_exact_model(models: dict[str, Path], layout: str) -> None:
    policy = EVERYTHING[LAYOUTS[layout][1][0].split(",")[0]](BLOCKY)
    scores, densities = evaluated(models[layout], policy)
    assert np.array_equal(scores[1, [0, 1, 3]], scores[0, [0, 1, 3]])
    assert np.array_equal(densities, np.ones_like(densities))
