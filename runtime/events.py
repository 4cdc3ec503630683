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
class TokenGenerated:
    """One token, and where the time since the token before went. `elapsed_ns` is the engine's wall clock."""

    token_id: int
    elapsed_ns: int
    compute_ns: int
    stall_ns: int
    flash_bytes: int
    flash_reads: int
    flash_busy_ns: int  # of elapsed_ns, with at least one read under way
    gathers: Gathers  # of flash_reads and flash_bytes
    logits_checksum: int  # xxh3_64 of the f32 logits: what "equal bits" is checked with


@dataclass(frozen=True, slots=True)
class ChannelsTraced:
    """What one position was computed with at one table of one layer: channels, or neurons, rising. Comes before the
    token that the position led to, from engines that were opened to trace."""

    position: int
    table: TableId
    layer: int
    channels: npt.NDArray[np.uint32]


GenerationEvent = LoadProgressed | PrefillProgressed | TokenGenerated | ChannelsTraced
