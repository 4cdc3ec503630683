"""What a consumer is told. Light: every actor's process imports it."""

import msgspec


class ConsumerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`layer_ns`: for all of a mean layer's bytes; less of them take less. `touches`: brings every cache line once, as
    kernels do, within that time. Single bundles are selected by a mix (arena/mixes.py) of `active` of each layer's."""

    layer_ns: int
    touches: bool = True
    mix: str = "zipf:0.7"
    active: float = 0.3
    seed: int = 0
