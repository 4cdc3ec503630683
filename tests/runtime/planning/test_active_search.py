import math
from typing import cast

import pytest

from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.calibration.record import Card, CardEntry
from tidemill.runtime.planning.active_run import ActiveRun
from tidemill.runtime.planning.active_search import NoActivePlanError, QualityCurve, least_sparsity, search

TOPK = SelectionSpec(policy="topk", sparsity=0.0)


def entry(selection: str, sparsity: float, perplexity: float) -> CardEntry:
    return CardEntry(
        selection=selection,
        sparsity=sparsity,
        weights_computed=1 - sparsity,
        perplexity=perplexity,
        kl=0.0,
        agreement=1.0,
    )


CARD = Card(
    text="held out",
    tokens=100,
    exact_perplexity=10.0,
    entries=(
        entry("topk 30%", 0.3, 11.0),
        entry("topk 50%", 0.5, 15.0),
        entry("topk 70%", 0.7, 80.0),
        entry("topk uniform 50%", 0.5, 30.0),
        entry("neuron 50%", 0.5, 9.0),
    ),
)
CURVE = QualityCurve.of(CARD, TOPK)


def test_quality_meets_the_card_and_is_geometric_in_between() -> None:
    assert [CURVE.ratio(s) for s in (0.0, 0.3, 0.5)] == pytest.approx([1.0, 1.1, 1.5])
    assert CURVE.ratio(0.4) == pytest.approx(math.sqrt(1.1 * 1.5))
    assert CURVE.ratio(0.71) == math.inf


def test_a_family_is_the_policy_with_its_allocation() -> None:
    uniform = SelectionSpec(policy="topk", sparsity=0.5, allocation="uniform")
    assert QualityCurve.of(CARD, uniform).ratio(0.5) == pytest.approx(3.0)
    with pytest.raises(NoActivePlanError, match="quality card has no gate"):
        QualityCurve.of(CARD, SelectionSpec(policy="gate", sparsity=0.5))


def test_noise_below_the_exact_perplexity_counts_as_no_loss() -> None:
    assert QualityCurve.of(CARD, SelectionSpec(policy="neuron", sparsity=0.5)).ratio(0.5) == 1.0


@pytest.mark.parametrize(("floor", "sparsity"), [(1.1, 0.3), (1.5, 0.5), (1.2, 0.35), (1e9, 0.7)])
def test_a_floor_takes_the_most_sparsity_that_keeps_it(floor: float, sparsity: float) -> None:
    assert CURVE.most_sparsity(floor) == sparsity


def test_a_floor_that_allows_nothing_says_what_would() -> None:
    with pytest.raises(NoActivePlanError, match="decode exactly"):
        CURVE.most_sparsity(1.0)


def test_by_the_ceiling_the_least_sparsity_whose_active_weights_fit() -> None:
    assert least_sparsity(1000, 600, CURVE) == 0.4
    assert least_sparsity(1000, 2000, CURVE) == 0.0
    with pytest.raises(NoActivePlanError, match="from a sparsity of 80%"):
        least_sparsity(1000, 200, CURVE)


class _Prediction:
    def __init__(self, seconds: float) -> None:
        self.decode_s_per_token = seconds


class _Run:
    def __init__(self, seconds: float) -> None:
        self.prediction = _Prediction(seconds)


def test_the_fastest_of_layouts_and_preloads_comes_first() -> None:
    seconds = {(0, "none"): 3.0, (0, "scaled"): 4.0, (1, "none"): 2.0, (1, "scaled"): 1.0}

    def predict(place: int, _sparsity: float, preload: PreloadKind, share: float) -> ActiveRun:
        return cast(ActiveRun, _Run(seconds[place, preload] + share / 10))

    found = search(0.5, 1.5, ["scaled", "scaled"], predict)
    assert (found[0].place, found[0].preload, found[0].preload_share) == (1, "scaled", 0.25)
    assert [way.token_s for way in found] == sorted(way.token_s for way in found)
    assert all(way.preload == "none" for way in search(0.5, 1.5, ["none"], predict))


def test_what_does_not_fit_is_left_out_and_told_where_nothing_fits() -> None:
    def predict(place: int, _sparsity: float, _preload: PreloadKind, _share: float) -> ActiveRun:
        if place == 0:
            raise ValueError("--ram is too small")
        return cast(ActiveRun, _Run(1.0))

    assert {way.place for way in search(0.5, 1.5, ["none", "none"], predict)} == {1}
    with pytest.raises(ValueError, match="too small"):
        search(0.5, 1.5, ["none"], predict)
