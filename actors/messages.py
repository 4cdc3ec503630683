"""Every message between actors, one union per link. Commands are imperative, facts are in the past tense.

Lists of ids travel as packed little-endian arrays in `bytes` (`packing.py`). No message carries weights.
"""

from enum import StrEnum

import msgspec


class ActorName(StrEnum):
    ENGINE = "engine"  # the parent: no actor itself, but the end of two links
    COMPUTE = "compute"
    PREDICTOR = "predictor"
    ARENA = "arena"
    READER = "reader"


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    pass


# --- engine -> compute


class Sampling(_Message, frozen=True):
    """How tokens are drawn. temperature 0 is greedy; top_k 0, top_p 1, min_p 0, penalty 1 mean "off"."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    seed: int


class OpenSequence(_Message, frozen=True, tag=1):
    """Start an empty sequence; there is one at a time, and opening ends the one before."""

    sequence: int
    sampling: Sampling


class RunStep(_Message, frozen=True, tag=2):
    """Append `token_ids` (packed i32) at position `start` and, if `sample`, draw the next token.

    `start` may lie before the sequence's end: what stood from there on is forgotten.
    """

    step: int
    sequence: int
    start: int
    token_ids: bytes
    sample: bool


class CancelStep(_Message, frozen=True, tag=3):
    """Give the running step up at the next layer; answered by StepCancelled, unless its end was already reported."""

    step: int


class EvaluateWindow(_Message, frozen=True, tag=8):
    """Run `token_ids` (packed i32) from position 0, exactly and under every policy that compute was opened with, and
    compare their next-token distributions. The sequence is empty afterwards."""

    step: int
    token_ids: bytes


# --- compute -> engine


class TokensSampled(_Message, frozen=True, tag=10):
    """The end of a step. `token_ids` (packed i32) is empty when nothing was to be sampled.

    `logits_checksum` is xxh3_64 of the f32 logits that were sampled from (0 without): equal checksums, equal bits.
    """

    step: int
    sequence: int
    token_ids: bytes
    compute_ns: int  # in kernels
    stall_ns: int  # waiting for bundles
    elapsed_ns: int  # from RunStep's arrival; the rest is management
    logits_checksum: int


class StepProgressed(_Message, frozen=True, tag=11):
    """A prefill has finished `done` of `total` (layers x positions). Speculative: dropped when the link is full."""

    step: int
    done: int
    total: int


class StepCancelled(_Message, frozen=True, tag=12):
    step: int


class StepFailed(_Message, frozen=True, tag=13):
    """The step cannot be computed; `what` is the whole text for the user."""

    step: int
    what: str


class WindowEvaluated(_Message, frozen=True, tag=18):
    """The end of an EvaluateWindow; variant 0 is exact. `scores`: f64 [variants, 4], summed over positions: their
    number, -ln p of the next token, KL to the exact distribution, times that the likeliest token is the exact one's.
    `densities`: f64 [variants, 7], the share of channels that q k v o gate up down computed with."""

    step: int
    scores: bytes
    densities: bytes
    compute_ns: int
    stall_ns: int
    elapsed_ns: int


class ChannelsSelected(_Message, frozen=True, tag=19):
    """What a policy chose for one position at one layer's input, for a record of the run: a bit for each channel of the
    table's layer (neuron, for tables of neurons), channel c in bit c % 8 of byte c // 8. Ahead of the step's
    TokensSampled; only cells that were opened to trace send it."""

    step: int
    position: int
    table: int
    layer: int
    channels: bytes


# --- compute -> predictor


class LayerEntered(_Message, frozen=True, tag=20):
    """Compute begins a lap over the layers (`layer` 0), or a later layer for policies that ask for it."""

    step: int
    epoch: int
    layer: int
    needs_head: bool


class StepAbandoned(_Message, frozen=True, tag=21):
    """The lap of `epoch` will not be finished; the next lap starts at layer 0 in `epoch` + 1."""

    epoch: int


class InputSeen(_Message, frozen=True, tag=22):
    """The input of a table of self-contained bundles is known, and with it the bundles that the step computes with:
    packed u32 ids in the table, rising; none for a step that computes with all. `values`: the input, packed f32, where
    it says something of later layers. `foreseen`: channels that the next layer will likely need of its own table,
    packed u32, the likeliest first. Speculative: dropped when the link is full."""

    epoch: int
    table: int
    layer: int
    bundles: bytes
    values: bytes
    foreseen: bytes = b""


# --- predictor -> arena


class WantBundles(_Message, frozen=True, tag=30):
    """Extent ranges (packed u32 start, stop, start, stop …) needed soon, in this order, behind what is wanted already.

    A new `epoch` empties the list first: what was wanted, in flight or ready for the old one is dropped.
    """

    epoch: int
    ranges: bytes


class PreloadBundles(_Message, frozen=True, tag=31):
    """Single bundles of a table that are likely needed soon (packed u32 ids, rising). Speculative: the arena takes what
    it has room for, and the link may drop it. `certain`: a step that computes with everything will need them, so
    nothing has to be weighed."""

    epoch: int
    table: int
    bundles: bytes
    certain: bool


# --- compute -> arena


class BundlesReleased(_Message, frozen=True, tag=40):
    """Compute is done with these slots (packed u32 slot, generation, …)."""

    slots: bytes


class DemandRows(_Message, frozen=True, tag=41):
    """Single bundles of a row-read table, needed now (packed u32 bundle ids, at most the arena's row slots)."""

    request: int
    epoch: int
    table: int
    bundles: bytes


class VisitBundles(_Message, frozen=True, tag=42):
    """The step computes with these bundles of one layer of a table of self-contained bundles (packed u32 ids in the
    table, rising). Answered by BundlesPlaced once all of them lie in slots; they stay until VisitEnded.

    `learns`: whether residency shall take it as use by the context, which a dense visit is not.
    """

    request: int
    epoch: int
    table: int
    layer: int
    bundles: bytes
    learns: bool


class VisitEnded(_Message, frozen=True, tag=43):
    """Compute is done with the slots of this visit."""

    request: int


class SequenceOpened(_Message, frozen=True, tag=44):
    """Another text begins: what residency learnt of the last one does not count."""


# --- arena -> compute


class BundlesReady(_Message, frozen=True, tag=50):
    """Extents that lie in slots now (packed u32 extent, slot, generation, …)."""

    epoch: int
    placed: bytes


class RowsReady(_Message, frozen=True, tag=51):
    """The demanded bundles, in the order of the demand: packed u32 slot, generation, byte offset inside the slot."""

    request: int
    epoch: int
    placed: bytes


class BundlesUnavailable(_Message, frozen=True, tag=52):
    """These bundles cannot be had (read or checksum failure after retries); the step that needs them fails."""

    epoch: int
    what: str


class BundlesPlaced(_Message, frozen=True, tag=53):
    """Where the bundles of a visit lie, in its order: packed u32 slots of the table's pool."""

    request: int
    slots: bytes


# --- arena -> reader


class Read(_Message, frozen=True):
    """One ticket: `stored_bytes` of `extent` from its byte `start`, decoded to `destination` in the arena.

    A whole extent (start 0), or the checksum blocks that hold one row.
    """

    ticket: int
    extent: int
    start: int
    stored_bytes: int
    destination: int  # byte offset in the arena region, a multiple of 4096
    demand: bool


class ReadBundles(_Message, frozen=True, tag=60):
    reads: tuple[Read, ...]


class CancelReads(_Message, frozen=True, tag=61):
    """Give these tickets up if they have not begun; each is answered all the same, as read or as cancelled."""

    tickets: bytes


class PromoteReads(_Message, frozen=True, tag=63):
    """What these tickets read is waited for now: those that have not begun go before whatever is not demanded."""

    tickets: bytes


class GatherBundles(_Message, frozen=True, tag=62):
    """One ticket: single bundles of a table of self-contained bundles (packed u32 ids in the table, rising), each into
    a slot of the table's pool (packed u32)."""

    ticket: int
    table: int
    bundles: bytes
    slots: bytes
    demand: bool


# --- reader -> arena


class BundlesRead(_Message, frozen=True, tag=70):
    """Tickets whose bytes lie verified in their destination (packed u32)."""

    tickets: bytes


class ReadsCancelled(_Message, frozen=True, tag=71):
    tickets: bytes


class ReadFailed(_Message, frozen=True, tag=72):
    """One ticket that failed for good; its destination holds nothing of worth."""

    ticket: int
    what: str


EngineToCompute = OpenSequence | RunStep | CancelStep | EvaluateWindow
ComputeToEngine = TokensSampled | StepProgressed | StepCancelled | StepFailed | WindowEvaluated | ChannelsSelected
ComputeToPredictor = LayerEntered | InputSeen | StepAbandoned
PredictorToArena = WantBundles | PreloadBundles
ComputeToArena = BundlesReleased | DemandRows | VisitBundles | VisitEnded | SequenceOpened
ArenaToCompute = BundlesReady | RowsReady | BundlesPlaced | BundlesUnavailable
ArenaToReader = ReadBundles | GatherBundles | CancelReads | PromoteReads
ReaderToArena = BundlesRead | ReadsCancelled | ReadFailed

Message = (
    EngineToCompute
    | ComputeToEngine
    | ComputeToPredictor
    | PredictorToArena
    | ComputeToArena
    | ArenaToCompute
    | ArenaToReader
    | ReaderToArena
)
