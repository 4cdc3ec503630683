"""What compute tells the engine, the predictor and the arena."""

from tidemill.actors.messages.message import ActorMessage

# --- compute -> engine


class TokensSampled(ActorMessage, frozen=True, tag=10):
    """The end of a step. `token_ids` (packed i32) is empty when nothing was to be sampled; all but the last were
    drafted and stand in the KV cache.

    `checksums` (packed u64): for each token, xxh3_64 of the f32 logits that it was sampled from: equal checksums, equal
    bits. `draft`: who proposed `drafted` tokens in `draft_ns` of elapsed_ns; "" in a step that could not draft.
    """

    step: int
    sequence: int
    token_ids: bytes
    compute_ns: int  # in kernels
    stall_ns: int  # waiting for bundles
    elapsed_ns: int  # from RunStep's arrival; the rest is management
    checksums: bytes
    draft: str = ""
    drafted: int = 0
    draft_ns: int = 0


class StepProgressed(ActorMessage, frozen=True, tag=11):
    """A prefill has finished `done` of `total` (layers x positions). Speculative: dropped when the link is full."""

    step: int
    done: int
    total: int


class StepCancelled(ActorMessage, frozen=True, tag=12):
    step: int


class StepFailed(ActorMessage, frozen=True, tag=13):
    """The step cannot be computed; `what` is the whole text for the user."""

    step: int
    what: str


class WindowEvaluated(ActorMessage, frozen=True, tag=18):
    """The end of an EvaluateWindow; variant 0 is exact. `scores`: f64 [variants, 4], summed over positions: their
    number, -ln p of the next token, KL to the exact distribution, times that the likeliest token is the exact one's.
    `densities`: f64 [variants, 7], the share of channels that q k v o gate up down computed with."""

    step: int
    scores: bytes
    densities: bytes
    compute_ns: int
    stall_ns: int
    elapsed_ns: int


class ChannelsSelected(ActorMessage, frozen=True, tag=19):
    """What a policy chose for one position at one layer's input, for a record of the run: a bit for each channel of the
    table's layer (neuron, for tables of neurons), channel c in bit c % 8 of byte c // 8. Ahead of the step's
    TokensSampled; only cells that were opened to trace send it."""

    step: int
    position: int
    table: int
    layer: int
    channels: bytes


# --- compute -> predictor


class LayerEntered(ActorMessage, frozen=True, tag=20):
    """Compute begins a lap over the layers (`layer` 0), or a later layer for policies that ask for it."""

    step: int
    epoch: int
    layer: int
    needs_head: bool


class StepAbandoned(ActorMessage, frozen=True, tag=21):
    """The lap of `epoch` will not be finished; the next lap starts at layer 0 in `epoch` + 1."""

    epoch: int


class InputSeen(ActorMessage, frozen=True, tag=22):
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


# --- compute -> arena


class BundlesReleased(ActorMessage, frozen=True, tag=40):
    """Compute is done with these slots (packed u32 slot, generation, …)."""

    slots: bytes


class DemandRows(ActorMessage, frozen=True, tag=41):
    """Single bundles of a row-read table, needed now (packed u32 bundle ids, at most the arena's row slots)."""

    request: int
    epoch: int
    table: int
    bundles: bytes


class VisitBundles(ActorMessage, frozen=True, tag=42):
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


class VisitEnded(ActorMessage, frozen=True, tag=43):
    """Compute is done with the slots of this visit."""

    request: int


class SequenceOpened(ActorMessage, frozen=True, tag=44):
    """Another text begins: what residency learnt of the last one does not count."""
