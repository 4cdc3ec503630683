"""What a plan rests on: rates that were saved, or are assumed, and what the processes weigh."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from tidemill.runtime.planning.constants import DEFAULT_PROCESSES, default_rates, flat_flash
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.runtime.tuning.saved_rates import find_rates


class Basis(NamedTuple):
    """The rates a plan rests on, and what of them is not this machine's measurement."""

    rates: MachineRates
    processes: dict[str, int]
    assumptions: tuple[str, ...]


def find_basis(directory: Path, flash_rate: str | None, threads: int) -> Basis:
    """Rates saved for this machine and the model's file system, or the stated defaults. Raises ValueError."""
    saved = find_rates(directory)
    assumptions: list[str] = []
    rates = saved.rates
    if rates is None:
        rates = default_rates(threads)
        reason = saved.problem or "this machine and file system are not measured"
        assumptions.append(
            f"{reason}: flash, DRAM and kernel rates are assumed (1 GB/s, 20 GB/s, 15 GB/s). For real ones: "
            f"tidemill tune -m {directory}"
        )
    elif threads > rates.threads:
        assumptions.append(f"kernels were measured with {rates.threads} threads: no gain is assumed from {threads}")
    processes = find_processes()
    if not processes:
        assumptions.append("the processes' sizes are those seen elsewhere: any run from here on is weighed")
    if flash_rate is not None:
        flash = flat_flash(parse_rate(flash_rate), f"--flash-rate {flash_rate}")
        gathers = rates.gathers
        if gathers is not None:  # a read and a bundle cost what they do on any drive
            rate = flash.points[0].bytes_per_s
            gathers = msgspec.structs.replace(gathers, byte_s=min(gathers.byte_s, 1 / rate), bytes_per_s_max=rate)
        rates = msgspec.structs.replace(rates, flash=flash, gathers=gathers)
        assumptions.append(f"the drive is taken to read {flash_rate} at every request size")
    return Basis(rates, processes or dict(DEFAULT_PROCESSES), tuple(assumptions))


def parse_rate(text: str) -> int:
    """Bytes per second from a size with or without "/s". Raises ValueError."""
    try:
        return parse_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is no rate; write for example 0.8GB/s, 500MB/s or a number of bytes") from None
