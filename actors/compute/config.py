import msgspec

from tidemill.storage.arena_plan import ArenaPlan


class ComputeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    plan: ArenaPlan
    context: int  # positions that the KV cache holds
    chunk: int  # most positions per prefill chunk; part of the bits, so it never depends on the ceiling
    threads: int
