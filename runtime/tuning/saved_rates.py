"""Keeps what was measured: one JSON file per machine and file system below the cache directory."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tidemill.runtime.environment import cache_directory
from tidemill.runtime.planning.rates import RATES_VERSION, MachineRates
from tidemill.runtime.tuning.machine import file_system, host_id
from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.checksums import digest


class DamagedRatesError(ValueError):
    """A saved measurement cannot be used. Says which file, why, and that measuring again replaces it."""


@dataclass(frozen=True, slots=True)
class SavedRates:
    path: Path
    rates: MachineRates | None
    problem: str | None  # why `rates` is None though there is a file


def rates_directory() -> Path:
    return cache_directory() / "tuning"


def rates_path(model_or_directory: Path) -> Path:
    """Where the rates of this machine and of the file system that holds a path are kept."""
    return rates_directory() / f"{host_id()}-{digest(file_system(model_or_directory).encode())}.json"


def save_rates(path: Path, rates: MachineRates) -> None:
    """Write atomically, synced. Raises OSError."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(rates), indent=1))


def load_rates(path: Path) -> MachineRates:
    """Raises FileNotFoundError, DamagedRatesError."""
    data = path.read_bytes()
    try:
        rates = msgspec.json.decode(data, type=MachineRates)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRatesError(f"{path} is damaged ({error}); `tidemill tune` measures again") from None
    if rates.version != RATES_VERSION:
        raise DamagedRatesError(
            f"{path} is of version {rates.version}, expected {RATES_VERSION}; `tidemill tune` measures again"
        )
    if problem := _problem(rates):
        raise DamagedRatesError(f"{path} is damaged: {problem}; `tidemill tune` measures again")
    return rates


def find_rates(model_or_directory: Path) -> SavedRates:
    """What is saved for this machine and file system: rates, or why there are none."""
    path = rates_path(model_or_directory)
    try:
        return SavedRates(path, load_rates(path), None)
    except FileNotFoundError:
        return SavedRates(path, None, None)
    except (DamagedRatesError, OSError) as error:
        return SavedRates(path, None, str(error))


def _problem(rates: MachineRates) -> str | None:
    """What the planner could not divide by."""
    numbers = [point.bytes_per_s for point in rates.flash.points]
    numbers += [rates.dram_bytes_per_s, *rates.kernels.bytes_per_s.values(), *rates.kernels.flop_per_s.values()]
    if not rates.flash.points or not rates.kernels.bytes_per_s or not rates.kernels.flop_per_s:
        return "it holds no rates"
    if not all(0 < number < float("inf") for number in numbers) or rates.threads < 1:
        return "a rate is not a number above 0"
    if any(p.request_bytes < 1 or p.depth < 1 for p in rates.flash.points) or any(
        b < 1 for b in rates.kernels.flop_per_s
    ):
        return "a size, depth or batch is below 1"
    gathers = rates.gathers
    if gathers is not None and not all(
        0 <= number < float("inf") for number in (gathers.read_s, gathers.byte_s, gathers.bundle_s)
    ):
        return "what single bundles take is not a number of at least 0"
    sizes = {point.request_bytes for point in rates.flash.points}
    depths = {point.depth for point in rates.flash.points}
    if {(p.request_bytes, p.depth) for p in rates.flash.points} != {(s, d) for s in sizes for d in depths}:
        return "its flash rates are no full grid of sizes and depths"
    return None
