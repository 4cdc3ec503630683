import msgspec


class ReaderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`retries`: how often a failed read is tried again before it fails for good."""

    tickets: int  # most reads that the arena may have outstanding
    retries: int
