"""A look at activations as they are computed, for calibration and traces."""

from typing import Protocol

from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.selection.selected import F32


class ActivationTap(Protocol):
    """Called once per layer and input, in compute order: qkv, o, gate_up, gate, down. What it is given are the whole
    inputs, before selection; they are buffers of the decoder, valid during the call only."""

    def see(self, kind: InputKind, layer: int, x: F32) -> None:
        """x [B, K] of one lap's positions."""
        ...
