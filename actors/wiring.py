"""The one table of links: who writes, who reads, which messages, how many bytes fit, what happens when full.

Launchers, tests and the diagram in ARCHITECTURE.md read it.
"""

from enum import Enum
from typing import Any, NamedTuple

from tidemill.actors import messages
from tidemill.actors.messages import ActorName


class WhenFull(Enum):
    WAIT = "wait"  # certain: the writer waits, with a deadline
    DROP = "drop"  # speculative: the message is dropped and counted


class LinkSpec(NamedTuple):
    """One bounded queue. `droppable` names the messages of it that are dropped when full; all others wait."""

    writer: ActorName
    reader: ActorName
    union: Any  # a typing union of message types: what msgspec decodes
    capacity_bytes: int
    droppable: tuple[type, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.reader}"

    def when_full(self, message: object) -> WhenFull:
        return WhenFull.DROP if isinstance(message, self.droppable) else WhenFull.WAIT


KIB = 1024

# A request's answer always fits: tickets, slots and row slots in flight are bounded by ReaderConfig.tickets and
# ArenaPlan, and the links that carry their answers hold that many records.
LINKS: tuple[LinkSpec, ...] = (
    LinkSpec(ActorName.ENGINE, ActorName.COMPUTE, messages.EngineToCompute, 1024 * KIB),
    LinkSpec(ActorName.COMPUTE, ActorName.ENGINE, messages.ComputeToEngine, 64 * KIB, (messages.StepProgressed,)),
    LinkSpec(ActorName.COMPUTE, ActorName.PREDICTOR, messages.ComputeToPredictor, 128 * KIB, (messages.InputSeen,)),
    LinkSpec(ActorName.PREDICTOR, ActorName.ARENA, messages.PredictorToArena, 256 * KIB, (messages.PreloadBundles,)),
    LinkSpec(ActorName.COMPUTE, ActorName.ARENA, messages.ComputeToArena, 256 * KIB),
    LinkSpec(ActorName.ARENA, ActorName.COMPUTE, messages.ArenaToCompute, 1024 * KIB),
    LinkSpec(ActorName.ARENA, ActorName.READER, messages.ArenaToReader, 256 * KIB),
    LinkSpec(ActorName.READER, ActorName.ARENA, messages.ReaderToArena, 256 * KIB),
)


def links_read_by(actor: ActorName) -> tuple[LinkSpec, ...]:
    return tuple(link for link in LINKS if link.reader == actor)


def links_written_by(actor: ActorName) -> tuple[LinkSpec, ...]:
    return tuple(link for link in LINKS if link.writer == actor)


def get_link(writer: ActorName, reader: ActorName) -> LinkSpec:
    """The link from one actor to another; raises KeyError when the wiring has none."""
    for link in LINKS:
        if (link.writer, link.reader) == (writer, reader):
            return link
    raise KeyError(f"no link from {writer} to {reader} in actors/wiring.py")
