"""How a sparsity is spread over what can be thinned, greedily: each time the next few bytes are left out where they
cost the least (TEAL, algorithm 1). Pure.

TEAL thins operators one by one; here the units are inputs, because operators that share an input are read together:
thinning k more than q would cost quality and save no byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.actors.compute.selection.operators import OPERATORS_OF, SPARSITY_MAX, InputKind
from tidemill.runtime.calibration.record import Allotment

STEP = 0.01  # of all bytes, left out at a time
RECORD_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class LossCurve:
    """What thinning one input alone loses: `losses[i]` at `sparsities[i]`, rising from (0, 0), linear in between."""

    sparsities: tuple[float, ...]
    losses: tuple[float, ...]

    def at(self, sparsity: float) -> float:
        rising = np.maximum.accumulate((0.0, *self.losses))  # less loss at more sparsity is noise
        return float(np.interp(sparsity, (0.0, *self.sparsities), rising))


def allocate(curves: Mapping[InputKind, LossCurve], weights: Mapping[InputKind, int]) -> tuple[Allotment, ...]:
    """Allotments for sparsities of 0.05, 0.10 … SPARSITY_MAX of all bytes. `weights` are those of each input.

    Losses are taken to add up. No input is thinned beyond SPARSITY_MAX.
    """
    total = sum(weights.values())
    sparsities = dict.fromkeys(curves, 0.0)
    left_out = 0.0
    allotments: list[Allotment] = []
    for goal in _goals():
        while left_out < goal - 1e-9:
            step = min(STEP, goal - left_out) * total
            kind, share = _cheapest(curves, weights, sparsities, step)
            left_out += (share - sparsities[kind]) * weights[kind] / total
            sparsities[kind] = share
        operators = {operator: sparsities[kind] for kind in curves for operator in OPERATORS_OF[kind]}
        allotments.append(Allotment(goal, operators))
    return tuple(allotments)


def _goals() -> Sequence[float]:
    count = round(SPARSITY_MAX / RECORD_EVERY)
    return [min(SPARSITY_MAX, round((i + 1) * RECORD_EVERY, 10)) for i in range(count)]


def _cheapest(
    curves: Mapping[InputKind, LossCurve], weights: Mapping[InputKind, int], now: Mapping[InputKind, float], step: float
) -> tuple[InputKind, float]:
    """The input whose next `step` bytes lose the least per byte, and its sparsity after them."""
    best: tuple[float, InputKind, float] | None = None
    for kind, curve in curves.items():
        after = min(SPARSITY_MAX, now[kind] + step / weights[kind])
        if after <= now[kind]:
            continue
        price = (curve.at(after) - curve.at(now[kind])) / ((after - now[kind]) * weights[kind])
        if best is None or price < best[0]:
            best = price, kind, after
    assert best is not None, "every input is at its end only when the last goal is reached"
    return best[1], best[2]
