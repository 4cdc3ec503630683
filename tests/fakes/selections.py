"""Policies for tests, of no calibration."""

from collections.abc import Callable, Mapping

import numpy as np

from tidemill.actors.compute.selection.gate import GateSelection
from tidemill.actors.compute.selection.neuron import NeuronSelection
from tidemill.actors.compute.selection.operators import OPERATORS, Operator
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.topk import TopKSelection
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.storage.decoder_spec import DecoderSpec


def topk(spec: DecoderSpec, thresholds: Mapping[Operator, float]) -> TopKSelection:
    """The same thresholds in every layer; operators without one stay whole."""
    levels = {operator: np.full(spec.layer_count, thresholds.get(operator, 0.0), np.float32) for operator in OPERATORS}
    return TopKSelection(levels, OPERATORS)


def gate(spec: DecoderSpec, threshold: float) -> GateSelection:
    return GateSelection(np.full(spec.layer_count, threshold, np.float32))


def neuron(spec: DecoderSpec, threshold: float, *, rank: int = 3, seed: int = 5) -> NeuronSelection:
    """Random predictors."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return rng.standard_normal(shape).astype(np.float32)

    predictors = [
        LowRankPredictor(normal(spec.hidden_size, rank), normal(rank, spec.ff_size), normal(spec.ff_size))
        for _ in range(spec.layer_count)
    ]
    return NeuronSelection(predictors, np.full(spec.layer_count, threshold, np.float32))


EVERYTHING: Mapping[str, Callable[[DecoderSpec], SelectionPolicy]] = {
    "topk": lambda spec: topk(spec, {}),
    "gate": lambda spec: gate(spec, 0.0),
    "neuron": lambda spec: neuron(spec, -np.inf),
}
HALF: Mapping[str, Callable[[DecoderSpec], SelectionPolicy]] = {
    "topk, an input alike": lambda spec: topk(spec, dict.fromkeys(OPERATORS, 0.5)),
    "topk, all apart": lambda spec: topk(spec, {name: 0.1 + 0.1 * i for i, name in enumerate(OPERATORS)}),
    "gate": lambda spec: gate(spec, 0.3),
    "neuron": lambda spec: neuron(spec, 0.1),
}
