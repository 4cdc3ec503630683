"""What the predictor asks the arena for."""

from tidemill.actors.messages.message import ActorMessage


class WantBundles(ActorMessage, frozen=True, tag=30):
    """Extent ranges (packed u32 start, stop, start, stop …) needed soon, in this order, behind what is wanted already.

    A new `epoch` empties the list first: what was wanted, in flight or ready for the old one is dropped.
    """

    epoch: int
    ranges: bytes


class PreloadBundles(ActorMessage, frozen=True, tag=31):
    """Single bundles of a table that are likely needed soon (packed u32 ids, rising). Speculative: the arena takes what
    it has room for, and the link may drop it. `certain`: a step that computes with everything will need them, so
    nothing has to be weighed."""

    epoch: int
    table: int
    bundles: bytes
    certain: bool
