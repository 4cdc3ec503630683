"""Input channels by magnitude: channel k of an operator is computed when |x_k| reaches the operator's threshold.

Thresholds that keep the top share of a calibration text's magnitudes, per layer and operator (TEAL, section 4;
ActiveFlow, section 4.1): no sort at run time, and no tie to break, as equal magnitudes fall on the same side.
"""

from collections.abc import Collection, Mapping

from tidemill.actors.compute.selection.operators import OPERATORS_OF, InputKind, Operator
from tidemill.actors.compute.selection.selected import F32, Mask, Selected, keep_above

KINDS: tuple[InputKind, ...] = ("qkv", "o", "gate_up", "down")


class TopKSelection:
    def __init__(self, thresholds: Mapping[Operator, F32], operators: Collection[Operator]) -> None:
        """`thresholds[operator]` is f32 [layers]; operators that are not in `operators` stay whole."""
        self._thresholds = {
            operator: values if operator in operators else 0 * values for operator, values in thresholds.items()
        }
        self.kinds: frozenset[InputKind] = frozenset(
            kind for kind in KINDS if any(operator in operators for operator in OPERATORS_OF[kind])
        )
        self.resident_bytes = sum(values.nbytes for values in thresholds.values())

    def select(self, layer: int, kind: InputKind, x: F32) -> Selected:
        """Masks are nested: of two operators at one input, that of the higher threshold keeps a part of the other's."""
        masks: dict[float, Mask] = {}
        operators = OPERATORS_OF[kind]
        levels = [float(self._thresholds[operator][layer]) for operator in operators]
        for level in levels:
            if level not in masks:
                masks[level] = keep_above(x, level)
        return Selected(operators, [masks[level] for level in levels])
