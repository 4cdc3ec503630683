"""Turns what was asked for into policy objects, by a calibration."""

from collections.abc import Mapping

import numpy as np

from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.gate import GateSelection
from tidemill.actors.compute.selection.neuron import NeuronSelection
from tidemill.actors.compute.selection.operators import OPERATORS, OPERATORS_OF, Operator
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.spec import SelectionSpec, check_selection
from tidemill.actors.compute.selection.topk import KINDS, TopKSelection
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.runtime.calibration.calibration_file import CalibrationError, CalibrationFile
from tidemill.runtime.calibration.magnitudes import at_level
from tidemill.runtime.calibration.record import Allotment


def build_policy(calibration: CalibrationFile, spec: SelectionSpec) -> SelectionPolicy:
    """Raises CalibrationError, ValueError for a bad selection."""
    check_selection(spec)
    match spec.policy:
        case "topk":
            shares = operator_shares(calibration.record.allocation, spec)
            thresholds = {
                operator: at_level(calibration.read(f"quantiles.{kind}"), shares[operator])
                for kind in KINDS
                for operator in OPERATORS_OF[kind]
            }
            return TopKSelection(thresholds, spec.operators)
        case "gate":
            return GateSelection(at_level(calibration.read("quantiles.gate"), spec.sparsity))
        case "neuron":
            return _neuron_policy(calibration, spec.sparsity)


def build_foresight(calibration: CalibrationFile, spec: SelectionSpec, policy: SelectionPolicy) -> Foresight:
    """What is looked ahead with while `policy` selects, whose predictors it shares where it has some. Raises
    CalibrationError."""
    if not isinstance(policy, NeuronSelection):
        policy = _neuron_policy(calibration, spec.sparsity)
    return Foresight(policy.predictors, policy.thresholds)


def operator_shares(allocation: tuple[Allotment, ...], spec: SelectionSpec) -> Mapping[Operator, float]:
    """The sparsity of each operator. The greedy allocation was made for all of them together: some alone are thinned
    alike."""
    if spec.allocation == "uniform" or set(spec.operators) != set(OPERATORS) or not allocation:
        return dict.fromkeys(OPERATORS, spec.sparsity)
    levels = [0.0, *(allotment.sparsity for allotment in allocation)]
    return {
        operator: float(np.interp(spec.sparsity, levels, [0.0, *(a.operators[operator] for a in allocation)]))
        for operator in OPERATORS
    }


def _neuron_policy(calibration: CalibrationFile, sparsity: float) -> NeuronSelection:
    if not calibration.record.rank:
        raise CalibrationError(
            f"{calibration.path} has no neuron predictors; train them: tidemill calibrate with --rank above 0"
        )
    names = ("neuron.inward", "neuron.outward", "neuron.bias")
    parts = zip(*(calibration.read(name) for name in names), strict=True)
    predictors = [LowRankPredictor(*arrays) for arrays in parts]
    thresholds = at_level(calibration.read("neuron.scores"), sparsity)
    if sparsity == 0.0:
        thresholds[:] = -np.inf
    return NeuronSelection(predictors, thresholds)
