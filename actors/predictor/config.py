import msgspec


class PredictorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    layer_ranges: tuple[tuple[int, int], ...]  # [start, stop) of the extents that every lap streams, in order
    head_range: tuple[int, int]
