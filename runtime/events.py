"""What the engine tells its caller while it works. The command line draws these; the Python API hides most of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.storage.ids import TableId


@dataclass(frozen=True, slots=True)
class StatusText:
    """A phase of opening that takes a while, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class LoadProgressed:
    """Locked weights read into the arena so far."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class PrefillProgressed:
    """Work of the prompt done so far, in layers x positions."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Gathers:
    """Reads of single bundles: `read_bytes` with what lay between them, `useful_bytes` without."""

    reads: int
    read_bytes: int
    useful_bytes: int


@dataclass(frozen=True, slots=True)
class DraftedPass:
    """A decoding step that may draft: `drafted` tokens were proposed by `kind` in `draft_ns`, then one exact lap over
    them and the token before checked them in `check_ns`; `accepted` of them were right. `stall_ns` and `flash_bytes`
    are the whole step's."""

    kind: str
    drafted: int
    accepted: int
    draft_ns: int
    check_ns: int
    stall_ns: int
    compute_ns: int
    flash_bytes: int


@dataclass(frozen=True, slots=True)
class TokenGenerated:
    """One token, and where the time since the token before went. `elapsed_ns` is the engine's wall clock. Tokens of one
    step share what it took alike; the first of them tells of its draft."""

    token_id: int
    elapsed_ns: int
    compute_ns: int
    stall_ns: int
    flash_bytes: int
    flash_reads: int
    flash_busy_ns: int  # of elapsed_ns, with at least one read under way
    gathers: Gathers  # of flash_reads and flash_bytes
    logits_checksum: int  # xxh3_64 of the f32 logits: what "equal bits" is checked with
    drafted_pass: DraftedPass | None = None


@dataclass(frozen=True, slots=True)
class ChannelsTraced:
    """What one position was computed with at one table of one layer: channels, or neurons, rising. Comes before the
    token that the position led to, from engines that were opened to trace."""

    position: int
    table: TableId
    layer: int
    channels: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class CellRestarted:
    """An actor died, as `why` says, and all of them were started again; `again` positions are computed once more."""

    why: str
    again: int


GenerationEvent = LoadProgressed | PrefillProgressed | TokenGenerated | ChannelsTraced | CellRestarted
