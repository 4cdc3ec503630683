"""What the campaign and its subject, the process that decodes, tell one another."""

from pathlib import Path

import msgspec

from tidemill.actors.messages import Sampling
from tidemill.runtime.stress.soak.event import Draft
from tidemill.storage.devices.device import LoadMode


class CellChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a cell is opened with. `ram_bytes`, `arena_bytes` None: the model is resident."""

    model: str
    ram_bytes: int | None
    arena_bytes: int | None
    context: int
    load_mode: LoadMode
    device: str = "drive"
    draft: Draft = "none"
    restarts: bool = False

    @property
    def directory(self) -> Path:
        return Path(self.model)


class Decode(msgspec.Struct, frozen=True, tag=1):
    """Open this cell, or go on with the one that is open if it is the same, and continue the prompt."""

    cell: CellChoice
    prompt: tuple[int, ...]
    tokens: int
    sampling: Sampling


class Flood(msgspec.Struct, frozen=True, tag=2):
    """Stop compute for so long, and send it so many messages that mean nothing, as fast as the link takes them."""

    messages: int
    stopped_s: float


class CloseCell(msgspec.Struct, frozen=True, tag=3):
    pass


class CellOpened(msgspec.Struct, frozen=True, tag=11):
    """Also told of a cell that was opened before. `arena_bytes`: of its plan; `beside_bytes`: what its ledger counts
    beside the arena."""

    process_ids: dict[str, int]
    arena_bytes: int
    beside_bytes: int


class Token(msgspec.Struct, frozen=True, tag=12):
    token_id: int
    checksum: int  # of the logits' bits


class Restarted(msgspec.Struct, frozen=True, tag=13):
    why: str


class Ended(msgspec.Struct, frozen=True, tag=14):
    """All tokens came. `peak_bytes` None: the system does not tell."""

    peak_bytes: int | None
    ceiling_bytes: int | None
    process_ids: dict[str, int]
    retries: int
    rereads: int
    faults: int


class Broke(msgspec.Struct, frozen=True, tag=15):
    """An error ended it. `kinds`: its class and those above; `is_expected`: its text was written for users.
    `process_ids` are empty where the cell was closed."""

    kinds: tuple[str, ...]
    text: str
    traceback: str
    is_expected: bool
    process_ids: dict[str, int]


class Flooded(msgspec.Struct, frozen=True, tag=16):
    messages: int
    seconds: float


class CellClosed(msgspec.Struct, frozen=True, tag=17):
    pass


ToSubject = Decode | Flood | CloseCell
FromSubject = CellOpened | Token | Restarted | Ended | Broke | Flooded | CellClosed
