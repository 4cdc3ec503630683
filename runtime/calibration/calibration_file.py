"""`calibration.safetensors` beside a model's manifest: arrays, and the record as JSON in the file's metadata.

One file, so that it is replaced whole. It is bound to the model by a digest, each array to the record likewise.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tidemill.actors.compute.selection.operators import SPARSITY_MAX
from tidemill.runtime.calibration.magnitudes import LEVELS
from tidemill.runtime.calibration.record import CALIBRATION_FILE, CALIBRATION_FORMAT, CalibrationRecord
from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.checksums import digest
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.model_files import check_model_file

F32 = npt.NDArray[np.float32]
QUANTILE_INPUTS = ("qkv", "o", "gate_up", "down", "gate")
RECORD_KEY = "tidemill.calibration"  # the record's digest, a space, the record: a second key would come in any order


class CalibrationError(ValueError):
    """There is no calibration, or it is damaged or of another model. Says the file, why, and what to do."""


class CalibrationFile:
    """The record of a model's calibration, checked; its arrays are read, and checked, as they are asked for."""

    def __init__(self, path: Path, record: CalibrationRecord, spec: DecoderSpec) -> None:
        self.path = path
        self.record = record
        self._shapes = array_shapes(spec, record.rank)

    @classmethod
    def open(cls, model: Path) -> "CalibrationFile":
        """Raises CalibrationError, StorageError."""
        manifest = load_manifest(model)
        path = model / CALIBRATION_FILE
        if not path.is_file():
            raise CalibrationError(
                f"{model} is not calibrated (no {CALIBRATION_FILE}); do it once: tidemill calibrate -m {model} "
                "--text FILE"
            )
        check_model_file(model, CALIBRATION_FILE)
        record = _read_record(path)
        expected = model_identity(manifest)
        if record.model != expected:
            raise CalibrationError(
                f"{path} belongs to another model: it names model {record.model}, this one is {expected}; "
                "calibrate this model: tidemill calibrate"
            )
        calibration = cls(path, record, manifest.decoder)
        if set(record.arrays) != set(calibration._shapes):
            raise _damaged(path, f"it lists arrays {sorted(record.arrays)}, expected {sorted(calibration._shapes)}")
        return calibration

    def read(self, name: str) -> F32:
        """One array, verified. Raises CalibrationError."""
        shape = self._shapes[name]
        try:
            with safe_open(self.path, framework="np") as file:
                stored = file.get_slice(name)
                if tuple(stored.get_shape()) != shape or stored.get_dtype() != "F32":
                    raise _damaged(
                        self.path, f"{name} is {stored.get_dtype()} {stored.get_shape()}, expected F32 {list(shape)}"
                    )
                array: F32 = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path, f"{name} cannot be read: {error}") from None
        got = digest(array.tobytes())
        if got != self.record.arrays[name]:
            raise _damaged(self.path, f"{name} has digest {got}, expected {self.record.arrays[name]}")
        return array


def array_shapes(spec: DecoderSpec, rank: int) -> Mapping[str, tuple[int, ...]]:
    """Every array of a calibration."""
    layers, levels = spec.layer_count, len(LEVELS)
    shapes: dict[str, tuple[int, ...]] = {f"quantiles.{kind}": (layers, levels) for kind in QUANTILE_INPUTS}
    if rank:
        shapes["neuron.scores"] = (layers, levels)
        shapes["neuron.inward"] = (layers, spec.hidden_size, rank)
        shapes["neuron.outward"] = (layers, rank, spec.ff_size)
        shapes["neuron.bias"] = (layers, spec.ff_size)
    return shapes


def model_identity(manifest: Manifest) -> str:
    """What thresholds and predictors depend on: the decoder, its source and the order of its neurons (which the note
    names), not how the weights are laid out. So conversions of one source share a calibration."""
    source = manifest.source
    return digest(msgspec.json.encode((manifest.decoder, source.kind, source.fingerprint, source.note)))


def save_calibration(model: Path, record: CalibrationRecord, arrays: Mapping[str, F32]) -> Path:
    """Write atomically, synced; the record's digests are made here. Raises OSError."""
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    digests = {name: digest(array.tobytes()) for name, array in arrays.items()}
    text = msgspec.json.encode(msgspec.structs.replace(record, arrays=digests)).decode()
    path = model / CALIBRATION_FILE
    write_atomically(path, save(dict(arrays), {RECORD_KEY: f"{digest(text.encode())} {text}"}))
    return path


def _read_record(path: Path) -> CalibrationRecord:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None
    stamp, _, text = metadata.get(RECORD_KEY, "").partition(" ")
    if not text or digest(text.encode()) != stamp:
        raise _damaged(path, "its record is missing, or differs from its digest")
    try:
        record = msgspec.json.decode(text, type=CalibrationRecord)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _damaged(path, f"its record: {error}") from None
    if record.format != CALIBRATION_FORMAT:
        raise CalibrationError(
            f"{path} is of format {record.format}, this program reads {CALIBRATION_FORMAT}; calibrate again"
        )
    shares = [share for allotment in record.allocation for share in allotment.operators.values()]
    if not all(0.0 <= share <= SPARSITY_MAX for share in shares) or record.rank < 0:
        raise _damaged(path, f"a sparsity lies outside 0..{SPARSITY_MAX}, or rank {record.rank} below 0")
    return record


def _damaged(path: Path, what: str) -> CalibrationError:
    return CalibrationError(f"{path} is damaged: {what}; make it again: tidemill calibrate")
