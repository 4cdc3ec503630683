"""The words of selection: operators, the inputs that they compute with, and policies' names. Imports nothing heavy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Operator = Literal["q", "k", "v", "o", "gate", "up", "down"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)

# Where a layer may be thinned, and by what. `qkv`, `gate_up`: normed residual [B, hidden]; `o`: attended heads
# [B, q_size]; `down`: act(gate)·up [B, ff]. At these four a mask's channels are those of the input itself. At `gate`
# (act(gate) [B, ff]) and `neuron` (normed residual before the MLP [B, hidden]) they are neurons.
InputKind = Literal["qkv", "o", "gate_up", "down", "gate", "neuron"]
INPUT_KINDS: tuple[InputKind, ...] = get_args(InputKind)

# Ordered as their rows lie in a table. Operators of one input share its channels, so what must be read is the union.
OPERATORS_OF: Mapping[InputKind, tuple[Operator, ...]] = MappingProxyType(
    {
        "qkv": ("q", "k", "v"),
        "o": ("o",),
        "gate_up": ("gate", "up"),
        "down": ("down",),
        "gate": ("up", "down"),
        "neuron": ("gate", "up", "down"),
    }
)

PolicyName = Literal["topk", "gate", "neuron"]
POLICY_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
# The operators that a policy can thin: all that are asked for elsewhere stay whole.
THINNED_BY: Mapping[PolicyName, tuple[Operator, ...]] = MappingProxyType(
    {"topk": OPERATORS, "gate": OPERATORS_OF["gate"], "neuron": OPERATORS_OF["neuron"]}
)
SPARSITY_MAX = 0.9  # beyond, thresholds are not calibrated


def operator_weights(operator: Operator, hidden_size: int, q_size: int, kv_size: int, ff_size: int) -> int:
    """Weights of one operator of one layer."""
    match operator:
        case "q" | "o":
            return hidden_size * q_size
        case "k" | "v":
            return hidden_size * kv_size
        case _:
            return hidden_size * ff_size
