"""Measures everything once, in order, telling how far it is. Saves nothing: `saved_rates` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from tidemill.runtime.catalog import list_models, models_directory
from tidemill.runtime.cell_plan import GATHER_BYTES_MAX
from tidemill.runtime.planning.rates import RATES_VERSION, FlashRates, GatherRates, MachineRates
from tidemill.runtime.tuning.flash import FlashMeter, FlashPlan
from tidemill.runtime.tuning.gathers import GatherMeter
from tidemill.runtime.tuning.kernel_rates import DEFAULT_KINDS, measure_kernels
from tidemill.runtime.tuning.machine import cpu_model, file_system, host_id
from tidemill.runtime.tuning.scratch_file import scratch_file
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.read_choices import ReadChoices

GATHER_DEPTH = 4  # reads under way, as a run has unless it is told otherwise
KERNEL_S = 9.0  # what the step takes where kernels are compiled, for the bar


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """`model` None: flash is measured on a scratch file of at most `scratch_bytes` in the models directory. `kept`:
    rates whose DRAM and kernels stay as they are; only flash is measured."""

    model: Path | None
    threads: int
    flash: FlashPlan
    scratch_bytes: int
    kept: MachineRates | None

    @property
    def place(self) -> Path:
        """What lies on the file system that is measured."""
        return models_directory() if self.model is None else self.model

    @property
    def reads_bundles(self) -> bool:
        """Whether the model's bundles come one by one, at a depth that is measured."""
        has_depth = GATHER_DEPTH in self.flash.depths
        return self.model is not None and has_depth and load_manifest(self.model).layout != "dense"

    @property
    def expected_s(self) -> float:
        return len(self.flash.points) * self.flash.seconds + (KERNEL_S if self.kept is None else 0.0)


@dataclass(frozen=True, slots=True)
class TuneProgress:
    """`done_s` of `TuneOptions.expected_s`."""

    step: str
    done_s: float


def choose_model(smallest_bytes: int) -> Path | None:
    """The largest complete model of the models directory whose shards can be measured on, or None."""
    models = [model for model in list_models() if model.problem is None and model.bytes >= smallest_bytes]
    return Path(max(models, key=lambda model: model.bytes).path) if models else None


def tune(options: TuneOptions, on_progress: Callable[[TuneProgress], None]) -> MachineRates:
    """Raises StorageError, FlashTooSmallError, NoScratchSpaceError, KernelError, OSError."""
    done_s = 0.0

    def advance(step: str, seconds: float) -> None:
        nonlocal done_s
        done_s += seconds
        on_progress(TuneProgress(step, done_s))

    advance("flash", 0.0)
    with _flash_meter(options) as meter:
        flash = meter.measure(options.flash, lambda seconds: advance("flash", seconds))
    gathers = None
    if options.reads_bundles:
        advance("single bundles", 0.0)
        gathers = _measure_gathers(options, flash, lambda seconds: advance("single bundles", seconds))
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    if options.kept is not None:
        gathers = gathers or options.kept.gathers
        return msgspec.structs.replace(options.kept, flash=flash, gathers=gathers, measured_at=measured_at)
    advance("DRAM and kernels", 0.0)
    compute = measure_kernels(options.threads, _kinds(options.model))
    advance("DRAM and kernels", KERNEL_S)
    return MachineRates(
        version=RATES_VERSION,
        host=host_id(),
        cpu=cpu_model(),
        threads=options.threads,
        file_system=file_system(options.place),
        measured_at=measured_at,
        flash=flash,
        dram_bytes_per_s=compute.dram_bytes_per_s,
        kernels=compute.kernels,
        gathers=gathers,
    )


def _measure_gathers(options: TuneOptions, flash: FlashRates, on_point: Callable[[float], None]) -> GatherRates:
    """With reads merged by the request times just measured, as a run will have them."""
    assert options.model is not None
    points = sorted((p.request_bytes, p.bytes_per_s) for p in flash.points if p.depth == GATHER_DEPTH)
    sizes, rates = (np.array(column, np.float64) for column in zip(*points, strict=True))
    choices = ReadChoices(sizes, sizes / rates, max_bytes=GATHER_BYTES_MAX)
    meter = GatherMeter(options.model, load_manifest(options.model), choices, io_depth=GATHER_DEPTH)
    return meter.measure(on_point)


def _kinds(model: Path | None) -> tuple[str, ...]:
    return DEFAULT_KINDS if model is None else load_manifest(model).matrix_kinds


@contextmanager
def _flash_meter(options: TuneOptions) -> Iterator[FlashMeter]:
    if options.model is not None:
        shards = [options.model / shard.file for shard in load_manifest(options.model).shards]
        yield FlashMeter(shards, source=f"the shards of {options.model.name}")
        return
    with scratch_file(models_directory(), options.scratch_bytes) as (path, size):
        yield FlashMeter([path], source=f"a scratch file of {size >> 20} MiB")
