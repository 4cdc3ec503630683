"""Neurons by their own gate: up and down of neuron i are computed when |act(gate_i)| reaches a threshold (CATS,
section 3). The gate is always computed whole, so nothing has to be guessed."""

from tidemill.actors.compute.selection.operators import OPERATORS_OF, InputKind
from tidemill.actors.compute.selection.selected import F32, Selected, keep_above


class GateSelection:
    kinds: frozenset[InputKind] = frozenset({"gate"})

    def __init__(self, thresholds: F32) -> None:
        """f32 [layers], on |act(gate)|."""
        self._thresholds = thresholds
        self.resident_bytes = thresholds.nbytes

    def select(self, layer: int, kind: InputKind, x: F32) -> Selected:
        mask = keep_above(x, float(self._thresholds[layer]))
        operators = OPERATORS_OF[kind]
        return Selected(operators, [mask] * len(operators))
