"""What every prediction policy must do when it may not lose exactness: want everything, in order, in the right
epoch."""

from collections.abc import Sequence

from tidemill.actors.actor import Actor, Send
from tidemill.actors.messages import (
    ActorName,
    LayerEntered,
    StepAbandoned,
    WantBundles,
)
from tidemill.actors.packing import unpack_ids

LAYERS, HEAD = (7, 19), (19, 22)


class PredictionContract:
    def make(self) -> Actor:
        """A policy over the extents LAYERS and HEAD."""
        raise NotImplementedError

    def wanted(self, sends: Sequence[Send], epoch: int) -> list[int]:
        extents: list[int] = []
        for to, message in sends:
            assert to is ActorName.ARENA
            assert isinstance(message, WantBundles)
            assert message.epoch == epoch
            for start, stop in unpack_ids(message.ranges, columns=2).tolist():
                extents += range(start, stop)
        return extents

    def test_every_lap_is_wanted_once_in_order_one_lap_ahead(self) -> None:
        actor = self.make()
        wanted = self.wanted(actor.start(), 0)
        needed: list[int] = []
        for step, needs_head in enumerate([False, True, True, False, True]):
            needed += [*range(*LAYERS), *(range(*HEAD) if needs_head else ())]
            wanted += self.wanted(actor.handle(LayerEntered(step, 0, 0, needs_head), step), 0)
            assert wanted[: len(needed)] == needed, "what this lap computes with is not wanted in order"
            assert wanted[len(needed) :] == list(range(*LAYERS)), "the next lap is not read ahead"

    def test_a_given_up_lap_begins_a_new_epoch_at_layer_0(self) -> None:
        actor = self.make()
        actor.start()
        actor.handle(LayerEntered(1, 0, 0, True), 0)
        assert self.wanted(actor.handle(StepAbandoned(0), 0), 1) == list(range(*LAYERS))
        assert self.wanted(actor.handle(LayerEntered(2, 1, 0, True), 0), 1) == [*range(*HEAD), *range(*LAYERS)]

    def test_a_late_message_of_an_old_epoch_changes_nothing(self) -> None:
        actor = self.make()
        actor.start()
        actor.handle(StepAbandoned(0), 0)
        assert list(actor.handle(LayerEntered(1, 0, 0, True), 0)) == []
