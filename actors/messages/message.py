"""What every message is, and who sends them."""

from enum import StrEnum

import msgspec


class ActorName(StrEnum):
    ENGINE = "engine"  # the parent: no actor itself, but the end of two links
    COMPUTE = "compute"
    PREDICTOR = "predictor"
    ARENA = "arena"
    READER = "reader"


class ActorMessage(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    pass
