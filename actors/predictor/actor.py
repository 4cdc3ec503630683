"""Says what will be needed soon. The dense policy: layer order, always one lap ahead of compute.

It owns no memory and knows nothing of slots: what is locked or already there is the arena's business.
"""

from collections.abc import Sequence

from tidemill.actors.actor import Send
from tidemill.actors.messages import (
    ActorName,
    InputSeen,
    LayerEntered,
    Message,
    StepAbandoned,
    WantBundles,
)
from tidemill.actors.packing import pack_ids
from tidemill.actors.predictor.config import PredictorConfig
from tidemill.actors.predictor.preloader import Preloader


class PredictorActor:
    """Dense prediction: a step computes with every layer in order, then, if it samples, with the head.

    When compute enters a lap, the rest of that lap is settled (head or not), and the layers of the next lap are certain
    enough to read ahead: whatever the next step is, it starts with layer 0.
    """

    name = ActorName.PREDICTOR
    wake_fds: Sequence[int] = ()
    wants_poll = False

    def __init__(self, config: PredictorConfig) -> None:
        self._layers = config.layer_ranges
        self._head = config.head_range
        self._epoch = 0
        self._preloader = Preloader(config.preload)

    def start(self) -> Sequence[Send]:
        return [self._want(*self._layers)]

    def handle(self, message: Message, now_ns: int) -> Sequence[Send]:
        match message:
            case LayerEntered(epoch=epoch, layer=0, needs_head=needs_head) if epoch == self._epoch:
                return [self._want(self._head, *self._layers) if needs_head else self._want(*self._layers)]
            case InputSeen(epoch=epoch) if epoch == self._epoch:
                return [Send(ActorName.ARENA, preload) for preload in self._preloader.seen(message)]
            case LayerEntered() | InputSeen():
                return []
            case StepAbandoned(epoch=epoch):
                self._epoch = epoch + 1
                return [self._want(*self._layers)]
            case _:
                raise TypeError(f"predictor has no use for {type(message).__name__}")

    def poll(self, now_ns: int) -> Sequence[Send]:
        return []

    def stop(self, *, drain: bool) -> Sequence[Send]:
        return []

    def _want(self, *ranges: tuple[int, int]) -> Send:
        return Send(ActorName.ARENA, WantBundles(self._epoch, pack_ids(ranges)))
