"""The contract of a selection policy: pure, and batch-invariant. Dense selection is no policy at all (None)."""

from typing import Protocol

from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.selection.selected import F32, Selected


class SelectionPolicy(Protocol):
    @property
    def kinds(self) -> frozenset[InputKind]:
        """The inputs that it selects at. At all others everything is computed."""
        ...

    @property
    def resident_bytes(self) -> int:
        """What it keeps in memory."""
        ...

    def select(self, layer: int, kind: InputKind, x: F32) -> Selected:
        """The channels to compute with, for x [B, K] at one of `kinds`.

        At `down` and `gate` each channel is judged by itself, so x may also be any run of a layer's neurons.
        """
        ...
