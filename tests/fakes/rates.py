"""Rates of a machine that is easy to reckon with."""

import msgspec

from tidemill.runtime.planning.rates import RATES_VERSION, FlashPoint, FlashRates, KernelRates, MachineRates

FLASH = FlashRates(
    source="fake",
    load_mode="direct",
    points=tuple(
        FlashPoint(size, depth, rate * (1 if depth == 1 else 2))
        for size, rate in ((1 << 16, 0.5e9), (1 << 20, 1e9))
        for depth in (1, 4)
    ),
)
RATES = MachineRates(
    version=RATES_VERSION,
    host="fake",
    cpu="fake",
    threads=2,
    file_system="fake",
    measured_at="2026-01-01T00:00:00+00:00",
    flash=FLASH,
    dram_bytes_per_s=40e9,
    kernels=KernelRates(bytes_per_s={"bf16": 20e9, "f16": 10e9}, flop_per_s={8: 80e9, 32: 100e9, 128: 120e9}),
)


def flat_rates(bytes_per_s: float) -> MachineRates:
    """RATES with a drive of one rate at every size and depth."""
    flash = FlashRates(source="flat", load_mode="direct", points=(FlashPoint(1 << 20, 4, bytes_per_s),))
    return msgspec.structs.replace(RATES, flash=flash)
