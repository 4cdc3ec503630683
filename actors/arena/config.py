from collections.abc import Mapping

import msgspec

from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.storage.arena_plan import ArenaPlan


class ArenaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    plan: ArenaPlan
    tickets: int  # most reads outstanding at the reader
    residency: ResidencyChoice = ResidencyChoice("lfu")
    # For hot sets: of each table, how often other text used the channels of its layers; packed u32 [layers, channels].
    popularity: Mapping[int, bytes] = msgspec.field(default_factory=dict)
    gate: GateRules | None = None  # what brakes preloads; None: nothing but the room that there is
