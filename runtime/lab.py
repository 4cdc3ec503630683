"""What a program in the same process puts into a cell's compute actor: policies of its own making, and a tap."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.tap import ActivationTap


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Only for the in-process launcher: nothing of it crosses a process. `bytes` is what it will take beside the
    cell."""

    policies: Sequence[SelectionPolicy]
    tap: ActivationTap | None
    bytes: int
