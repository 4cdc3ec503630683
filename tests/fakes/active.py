"""What a replay found of a model of 16 layers, and a drive, that active-weight predictions are easy to reckon for."""

from dataclasses import replace

import msgspec

from tests.fakes.rates import RATES
from tidemill.runtime.planning.active import DenseWork
from tidemill.runtime.planning.bundle_replay import Reads, TableUse
from tidemill.runtime.planning.rates import GatherRates, MachineRates

MIB = 1 << 20
LAYERS, DEMANDS, LAYER_ACTIVE = 16, 4, 16 * MIB
BUNDLE, CHUNK = 8 << 10, 256 << 10
DENSE = DenseWork(compute_s=2e-3, management_s=0.0, ring_s=0.0, ring_read_s=0.0, ring_bytes=0)


def gathering(byte_s: float, read_s: float = 0.0) -> MachineRates:
    """A drive whose reads of single bundles take so long, beside kernels at 20 GB/s."""
    gathers = GatherRates(depth=4, read_s=read_s, byte_s=byte_s, bundle_s=0.0)
    return msgspec.structs.replace(RATES, gathers=gathers)


def reads_of(size: float, read_bytes: float) -> Reads:
    """`size` bytes of bundles in reads of `read_bytes`, nothing between them."""
    return Reads(bundles=size / BUNDLE, useful_bytes=size, requests=size / read_bytes, read_bytes=size)


def use_of(*, group: int, hit_rate: float, recall: float, precision: float) -> TableUse:
    """All visits of a token, as if to one role: groups of `group` layers of which the first is locked."""
    streamed = LAYERS - group
    missing = streamed * LAYER_ACTIVE * (1 - hit_rate)
    active = LAYERS * LAYER_ACTIVE
    return TableUse(
        role="mlp_in",
        pool=0,
        kind="bf16",
        channels=2 * LAYER_ACTIVE // BUNDLE // DEMANDS,
        quota=0,
        visits=LAYERS * DEMANDS,
        missing_visits=streamed * DEMANDS,
        active=active / BUNDLE,
        active_bytes=active,
        hits=(active - missing) / BUNDLE,
        demand=reads_of(missing, BUNDLE),
        planned=reads_of(missing * recall / precision, CHUNK) if recall else Reads(),
        left=reads_of(missing * (1 - recall), BUNDLE),
    )


def without_preload(use: TableUse) -> TableUse:
    return replace(use, planned=Reads(), left=use.demand)
