import msgspec


class PredictorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    layer_extents: tuple[int, int]  # [start, stop) of the extents that every lap streams
    head_extents: tuple[int, int]
