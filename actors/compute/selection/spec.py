"""What a lossy step is asked for: policy, sparsity and operators. The calibration turns it into a policy object."""

from typing import Literal

import msgspec

from tidemill.actors.compute.selection.operators import (
    OPERATORS,
    SPARSITY_MAX,
    THINNED_BY,
    Operator,
    PolicyName,
)

# How topk spreads a sparsity: the same for every operator, or by measured loss (TEAL's greedy allocation).
Allocation = Literal["uniform", "greedy"]


class SelectionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`sparsity` is the share that is left out of what the policy can thin: input channels of the operators (topk),
    neurons (gate, neuron). Operators that are not named stay whole."""

    policy: PolicyName
    sparsity: float
    operators: tuple[Operator, ...] = OPERATORS
    allocation: Allocation = "greedy"

    @property
    def name(self) -> str:
        """As tables and cards call it."""
        operators = "" if self.operators == OPERATORS else f" {','.join(self.operators)}"
        allocation = " uniform" if self.policy == "topk" and self.allocation == "uniform" else ""
        return f"{self.policy}{allocation} {self.sparsity:.0%}{operators}"


def check_selection(spec: SelectionSpec) -> SelectionSpec:
    """Raises ValueError naming the value and what is accepted."""
    if not 0.0 <= spec.sparsity <= SPARSITY_MAX:
        raise ValueError(f"sparsity is {spec.sparsity}, accepted: 0 to {SPARSITY_MAX}")
    thinned = THINNED_BY[spec.policy]
    if spec.policy != "topk" and not set(thinned) <= set(spec.operators):
        raise ValueError(
            f"policy {spec.policy} chooses whole neurons, so operators {', '.join(thinned)} go together; "
            f"got {', '.join(spec.operators) or 'none'}: name them all, or use topk"
        )
    if not spec.operators or len(set(spec.operators)) != len(spec.operators):
        raise ValueError(
            f"operators are {', '.join(spec.operators) or 'none'}; accepted: some of {', '.join(OPERATORS)}"
        )
    return spec
