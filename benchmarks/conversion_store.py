"""Conversions of one model for a benchmark: found, or made, calibrated and removed again, as the disk holds only some.

Calibrations come from one calibrated model: of the small model that a wide one was widened from, or of the same source.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.active_variants import Conversion
from benchmarks.fixtures.wide_calibration import SAME_SHARE, check_calibration, open_widened, widen_calibration
from benchmarks.fixtures.wide_order import find_ratio, wide_orders
from tidemill.runtime.calibration.calibration_file import CalibrationFile
from tidemill.runtime.calibration.record import CALIBRATION_FILE
from tidemill.runtime.sizes import format_size
from tidemill.storage.convert.convert import convert_model, open_source
from tidemill.storage.convert.neuron_order import NeuronOrder
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest_file import load_manifest

MADE = "made-by-benchmark.json"  # in the store: which conversions may be removed
SPARE_BYTES = 1 << 30


@dataclass(frozen=True)
class Material:
    """`source`: what is converted, or None where nothing may be; `calibrated`: a converted model with a calibration;
    `trace`: of the calibrated model's neurons in their source's order, for conversions in another."""

    source: Path | None
    calibrated: Path | None
    trace: Path | None


class ConversionStore:
    """Conversions by name in one directory. What was there before is used as it is and never removed."""

    def __init__(self, directory: Path, material: Material, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._material = material
        self._tell = tell

    def path_of(self, name: str) -> Path:
        return self._directory / name

    def provide(self, conversion: Conversion) -> Path:
        """Raises ValueError for what is missing to make it, StorageError, CalibrationError, OSError."""
        path = self.path_of(conversion.name)
        if not path.exists():
            self._convert(conversion, path)
        if not (path / CALIBRATION_FILE).exists():
            self._calibrate(path)
        return path

    def remove(self, conversion: Conversion) -> None:
        """If it was made here."""
        made = self._made()
        if conversion.name in made:
            shutil.rmtree(self.path_of(conversion.name), ignore_errors=True)
            self._keep(made - {conversion.name})

    def _convert(self, conversion: Conversion, path: Path) -> None:
        source = self._material.source
        if source is None:
            raise ValueError(f"{path} does not exist; convert the model so, or give --source to have it made")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._check_space(source)
        self._tell(f"converting {source.name} to {path}")
        order = self._order(conversion, source)
        self._keep(self._made() | {conversion.name})  # before: a conversion that was stopped is ours too
        choice = LayoutChoice(conversion.layout, conversion.group)
        convert_model(source, path, choice=choice, neuron_order=order)

    def _order(self, conversion: Conversion, source: Path) -> NeuronOrder | None:
        if conversion.order_by is None:
            return None
        trace = self._material.trace
        if trace is None:
            raise ValueError(f"conversion {conversion.name} needs --trace: what the model's neurons do")
        tensors = open_source(source)
        neurons = tensors.decoder.ff_size
        tensors.close()
        ratio = find_ratio(trace, neurons)
        return wide_orders(trace, conversion.order_by, ratio, conversion.copies).get

    def _calibrate(self, path: Path) -> None:
        calibrated = self._material.calibrated
        if calibrated is None:
            raise ValueError(f"{path} is not calibrated; calibrate it, or give --calibrated")
        small = CalibrationFile.open(calibrated)
        widened = open_widened(path, load_manifest(calibrated))
        file = widen_calibration(small, widened)
        same = check_calibration(small, widened)
        if same < SAME_SHARE:
            file.unlink()
            raise ValueError(f"{path}: only {same:.2%} of its neurons are chosen as {calibrated} chooses them")

    def _check_space(self, source: Path) -> None:
        needed = sum(file.stat().st_size for file in source.iterdir()) if source.is_dir() else source.stat().st_size
        free = shutil.disk_usage(self._directory).free
        if free < needed + SPARE_BYTES:
            raise OSError(f"{self._directory} has {format_size(free)} free, expected {format_size(needed)} and some")

    def _made(self) -> set[str]:
        file = self._directory / MADE
        return set(json.loads(file.read_bytes())) if file.exists() else set()

    def _keep(self, made: set[str]) -> None:
        (self._directory / MADE).write_text(json.dumps(sorted(made)), encoding="utf-8")
