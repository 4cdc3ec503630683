"""One request, followed from its order to its end while something is done to it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tidemill.runtime.stress.soak.judges import Broken
from tidemill.runtime.stress.soak.messages import Broke, CellOpened, Decode, Ended, Flooded, Restarted, Token
from tidemill.runtime.stress.soak.patience import Patience
from tidemill.runtime.stress.soak.subject_process import SubjectProcess

Act = Callable[["Attempt"], None]


@dataclass(slots=True)
class Attempt:
    """What came of it so far. `process_ids`: of the cell, by actor; empty where none is open."""

    process_ids: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[int, int]] = field(default_factory=list)
    restarts: int = 0
    flooded: Flooded | None = None
    opened: CellOpened | None = None
    ended: Ended | None = None
    broken: Broken | None = None

    @property
    def is_over(self) -> bool:
        return self.ended is not None or self.broken is not None

    @property
    def counts(self) -> dict[str, int]:
        if self.ended is None:
            return {"retries": 0, "rereads": 0, "faults": 0}
        return {"retries": self.ended.retries, "rereads": self.ended.rereads, "faults": self.ended.faults}


def attempt(
    subject: SubjectProcess, request: Decode, patience: Patience, *, at: int = 0, act: Act = lambda _: None
) -> Attempt:
    """`act` is called once, when token `at` was told (0: when the cell is open). Raises SubjectGoneError, HungError."""
    so_far = Attempt()
    subject.send(request)
    has_acted = False
    while not so_far.is_over:
        _add(so_far, subject.receive(patience))
        if not has_acted and not so_far.is_over and so_far.opened is not None and len(so_far.steps) >= at:
            has_acted = True
            act(so_far)
    return so_far


def _add(so_far: Attempt, message: object) -> None:
    match message:
        case CellOpened(process_ids=process_ids):
            so_far.opened, so_far.process_ids = message, process_ids
        case Token(token_id, checksum):
            so_far.steps.append((token_id, checksum))
        case Restarted():
            so_far.restarts += 1
        case Flooded():
            so_far.flooded = message
        case Ended(process_ids=process_ids):
            so_far.ended, so_far.process_ids = message, process_ids
        case Broke(kinds, text, traceback, is_expected, process_ids):
            so_far.broken, so_far.process_ids = Broken(kinds, text, traceback, is_expected), process_ids
        case _:
            raise TypeError(f"a request is not answered by {type(message).__name__}")
