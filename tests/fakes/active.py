"""A model, its behaviour at half sparsity and a drive, that active-weight plans are easy to reckon for."""

import msgspec

from tests.fakes.rates import RATES
from tidemill.runtime.planning.active import ActiveBehaviour, ActiveCosts, ActiveShape
from tidemill.runtime.planning.rates import FlashPoint, FlashRates, MachineRates

MIB = 1 << 20
SHAPE = ActiveShape(
    layer_count=16,
    layer_bytes=32 * MIB,
    bundle_bytes=8 << 10,
    kind="bf16",
    resident_bytes=100 * MIB,
    kv_bytes=8 * MIB,
    activation_bytes=4 * MIB,
    fixed_s=2e-3,
    layer_overhead_s=0.2e-3,
    demands_per_layer=4,
)
BEHAVIOUR = ActiveBehaviour(
    sparsity=0.5,
    hit_rates=((0.0, 0.0), (0.25, 0.42), (0.5, 0.7), (0.75, 0.88), (1.0, 1.0)),
    recalls={1: 0.7, 2: 0.65, 4: 0.6, 8: 0.55},
    precisions={1: 0.7, 2: 0.65, 4: 0.6, 8: 0.55},
    merged=1.0,
)
COSTS = ActiveCosts(request_s=5e-6, layer_s=50e-6, io_depth=4, preload_request_bytes=MIB // 4)


def flash_rates(small: float, large: float) -> MachineRates:
    """`small` bytes per second up to 8 KiB, `large` from 256 KiB on, at any depth; time is affine in between."""
    points = (FlashPoint(8 << 10, 4, small), FlashPoint(256 << 10, 4, large), FlashPoint(MIB, 4, large))
    return msgspec.structs.replace(RATES, flash=FlashRates(source="fake", load_mode="direct", points=points))
