from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.fixtures.recorded_run import write_recorded_run
from tests.fakes.stress import FakeSurroundings, ticking_clock
from tidemill.actors.messages import InputSeen
from tidemill.actors.packing import pack_ids
from tidemill.actors.predictor.config import PreloadKind, PreloadTable
from tidemill.runtime.stress.predictor.inputs import Input, Inputs
from tidemill.runtime.stress.predictor.job import POLICY_NAMES, PredictorFigures, PredictorJob, check_job
from tidemill.runtime.stress.predictor.run import PredictorRun, run_predictor

SMALL = PredictorJob(
    name="a", policies=POLICY_NAMES, layers=4, channels=64, neurons=128, active=0.25, tokens=6
)  # fmt: skip


def run(job: PredictorJob) -> list[PredictorFigures]:
    return [
        found.predictor
        for found in run_predictor(job, FakeSurroundings(), ticking_clock())
        if found.predictor is not None
    ]


@pytest.mark.parametrize("policy", ["previous-token", "popularity"])
def test_what_repeats_is_named_from_the_second_token_on(policy: PreloadKind) -> None:
    """Two layers of neurons, always the same ones: of 5 tokens' visits to layer 1, the first finds nothing named."""
    tables = tuple(PreloadTable(layer, "down", layer, 1, 16) for layer in range(2))
    active = np.array([1, 5, 9], np.uint32)
    inputs = Inputs(tables, 2, [], "")
    found = PredictorRun(policy, 1.0, inputs)
    for _ in range(5):
        for layer in range(2):
            found.see(Input(layer, layer, active, None), InputSeen(0, layer, layer, pack_ids(active), b""), 0)
    assert (found.tally.used, found.tally.both, found.tally.named) == (15, 12, 12)
    assert found.tally.blind == pytest.approx(4 * 3 * 3 / 16)
    assert found.inputs == 10


@pytest.mark.parametrize("group", [1, 2])
def test_every_policy_names_more_than_chance_of_drawn_inputs(group: int) -> None:
    found = run(msgspec.structs.replace(SMALL, group=group))
    assert [figures.policy for figures in found] == list(POLICY_NAMES)
    for figures in found:
        assert figures.recall > figures.chance > 0, figures.policy
        assert 0 < figures.precision <= 1
        assert figures.inputs == figures.seen_ns.N == 6 * 4 * 4
        assert figures.input_ns > 0
    by_name = {figures.policy: figures for figures in found}
    assert by_name["cross-layer"].recall_by_input["qkv"] > by_name["previous-token"].recall_by_input["qkv"]


def test_more_that_is_named_finds_more_and_wastes_more() -> None:
    job = msgspec.structs.replace(SMALL, policies=("cross-layer",))
    (half,), (twice,) = run(msgspec.structs.replace(job, share=0.5)), run(msgspec.structs.replace(job, share=2.0))
    assert half.recall < twice.recall
    assert half.precision > twice.precision
    assert half.named < twice.named


def test_recorded_activations_are_predicted(tmp_path: Path) -> None:
    trace, activations = write_recorded_run(tmp_path, layers=4, positions=6)
    job = msgspec.structs.replace(SMALL, trace=str(trace), activations=str(activations), policies=("scaled",))
    (found,) = run(check_job(job))
    assert found.tokens == 6
    assert found.recall_by_input["qkv"] > 0.6  # chance is a half


def test_with_a_time_tokens_begin_again_and_a_stop_gives_what_there_is() -> None:
    job = msgspec.structs.replace(SMALL, policies=("popularity", "cross-layer"), runtime_s=0.05)
    assert all(figures.tokens > 6 for figures in run(job))
    stopped = run_predictor(msgspec.structs.replace(job, runtime_s=60.0), FakeSurroundings(stop_after=8))
    assert len(stopped) == 1
    assert stopped[0].predictor is not None
    assert 0 < stopped[0].predictor.tokens <= 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"policies": ("look-ahead",)}, "--policies is look-ahead, accepted: scaled, cross-layer"),
        ({"share": 0.0}, "--share"),
        ({"active": 1.0}, "--active"),
        ({"activations": "a"}, "give both"),
        ({"trace": "a", "policies": ("scaled",)}, "scaled weighs magnitudes"),
    ],
)
def test_what_cannot_be_is_refused_by_its_option(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_job(msgspec.structs.replace(SMALL, **changes))  # type: ignore[arg-type]
