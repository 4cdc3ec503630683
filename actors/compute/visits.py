"""The visit under way to a table of single bundles: what the arena was asked for, where it lies, and what the predictor
is told of it."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.actor import Send
from tidemill.actors.compute.step_events import BundlesNeeded
from tidemill.actors.messages import ActorName, BundlesPlaced, ChannelsSelected, InputSeen, VisitBundles, VisitEnded
from tidemill.actors.packing import pack_bits, pack_ids, unpack_ids
from tidemill.storage.bundle_plan import BundlePlan


class Visits:
    """One at a time. An answer to a visit that was given up is told by its request number."""

    def __init__(self, plan: BundlePlan) -> None:
        self._plan = plan
        self._layout_of = {cached.table: (cached.channels, len(cached.quotas)) for cached in plan.tables}
        self._request = 0
        self._need: BundlesNeeded | None = None
        self._untold: tuple[BundlesNeeded, int] | None = None  # and its epoch

    @property
    def has_news(self) -> bool:
        """Whether `tell` has something to work out: at best while the visit waits."""
        return self._untold is not None

    def begin(self, need: BundlesNeeded, epoch: int) -> list[Send]:
        """Ask the arena; and tell the predictor what was selected, as the next layers will be like it. Where that takes
        work, the arena is asked first: see `tell`."""
        self._request += 1
        self._need = need
        packed = pack_ids(need.bundles)
        visit = VisitBundles(self._request, epoch, need.table, need.layer, packed, need.selected)
        self._untold = need, epoch
        return [Send(ActorName.ARENA, visit), *([] if need.foresee else self.tell())]

    def tell(self) -> list[Send]:
        if self._untold is None:
            return []
        (need, epoch), self._untold = self._untold, None
        bundles = pack_ids(need.bundles) if need.selected else b""
        values = b"" if need.values is None else need.values.astype("<f4").tobytes()
        foreseen = b"" if need.foresee is None else pack_ids(need.foresee())
        seen = InputSeen(epoch, need.table, need.layer, bundles, values, foreseen)
        return [Send(ActorName.PREDICTOR, seen)]

    def record(self, need: BundlesNeeded, step: int, position: int) -> list[Send]:
        """What the step selects, for the engine; nothing where it computes with all."""
        if not need.selected:
            return []
        channels, layers = self._layout_of[need.table]
        bits = pack_bits(need.bundles // np.uint32(layers), channels)
        return [Send(ActorName.ENGINE, ChannelsSelected(step, position, need.table, need.layer, bits))]

    def place(self, message: BundlesPlaced) -> npt.NDArray[np.int64] | None:
        """Byte offsets in the arena, in the order of the visit; None for a visit that was given up."""
        if self._need is None or message.request != self._request:
            return None
        pool = self._plan.pool_of[self._need.table]
        return pool.offset + unpack_ids(message.slots).astype(np.int64) * pool.slot_bytes

    def end(self) -> Send:
        self._need = None
        return Send(ActorName.ARENA, VisitEnded(self._request))

    def abandon(self) -> None:
        """The arena gives up by the epoch."""
        self._need = self._untold = None
