"""The seam of prediction: what a preload policy is told while a token is computed, and what it answers.

A policy never sees a weight, a slot or a read. It is told what each input of each layer turned out to be, and scores
the channels of inputs that aren't computed yet. How many of them are read is somebody else's budget.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]
InputKind = Literal["qkv", "o", "gate_up", "down"]
# `gate`: act(gate) of every neuron, where it is computed before up and down are read. It is seen, never preloaded.
SeenKind = Literal["qkv", "o", "gate_up", "down", "gate"]
INPUT_KINDS: tuple[InputKind, ...] = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True, slots=True)
class Seen:
    """One input of one layer, once it is known. `active`: ascending channels that it is computed with. `values`: the
    input itself, [channels], signed and before masking; None where only the mask was published."""

    layer: int
    kind: SeenKind
    active: U32
    values: F32 | None


class PreloadPolicy(Protocol):
    """Deterministic: equal calls give equal scores. Positions come in order, and within one, layers do."""

    def begin_sequence(self) -> None:
        """Forgets everything that was learnt from the sequence before; what was trained or counted offline stays."""
        ...

    def begin_position(self, position: int) -> None:
        """The next token begins; `position` counts the recorded or decoded positions of this sequence."""
        ...

    def observe(self, seen: Seen) -> None: ...

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        """Scores of all channels of that input, [channels]: the higher, the more likely; 0 or less: not at all.

        `source_layer` is the last layer of this position that was observed. None: nothing is known (yet).
        """
        ...
