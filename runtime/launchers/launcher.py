"""The contract of a launcher: how the actors of one cell come to life, and how the engine talks to them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tidemill.actors.counters import Counters
from tidemill.actors.messages import ComputeToEngine, EngineToCompute
from tidemill.runtime.cell_spec import CellSpec


class ActorDiedError(RuntimeError):
    """An actor ended that should not have. Names it, how it ended, and what it did last."""


class OutOfMemoryError(ActorDiedError):
    """It was killed because the memory that this cell may take was not enough."""


class CellClosedError(RuntimeError):
    """Something was asked of a cell after `close`."""


class Launcher(Protocol):
    """`prepare` → `start` → `send`/`receive` … → `close`. After an error of any of them only `close` is called."""

    @property
    def name(self) -> str: ...

    @property
    def counters(self) -> Counters: ...

    def prepare(
        self,
        model_directories: Sequence[str],
        *,
        threads: int,
        selects: bool = False,
        draft_planes: bool = False,
        consumes: bool = False,
    ) -> None:
        """Bring the actors' processes up, with all that they import for these models: the one that is run, and one that
        drafts for it. `selects`, `draft_planes`: with the kernels of steps that select, of drafts with plane 0;
        `consumes`: with none, as compute will only take its time (CellSpec.consumer). Raises
        ActorDiedError."""
        ...

    def process_ids(self) -> Mapping[str, int]:
        """Every process of the cell by name, the parent included."""
        ...

    def start(self, spec: CellSpec) -> None:
        """Create the regions and start the actors. Raises ActorDiedError, RegionError."""
        ...

    def send(self, message: EngineToCompute) -> None:
        """Raises CellClosedError."""
        ...

    def receive(self, timeout_s: float) -> Sequence[ComputeToEngine]:
        """Messages that came, waiting for at most `timeout_s` for the first. Raises ActorDiedError,
        CellClosedError."""
        ...

    def close(self) -> None:
        """End the actors and remove everything. May be called twice, and at any point."""
        ...
