"""The calibration of a model: a safetensors file whose metadata holds a record with a digest. The bytes as the file,
and as the record."""

import functools
import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests.fakes.models import write_tiny_model
from tests.fuzz.scratch import scratch_directory
from tidemill.runtime.calibration.calibration_file import (
    RECORD_KEY,
    CalibrationError,
    CalibrationFile,
    array_shapes,
    model_identity,
    save_calibration,
)
from tidemill.runtime.calibration.record import (
    CALIBRATION_FILE,
    CALIBRATION_FORMAT,
    Allotment,
    CalibrationRecord,
    TextUsed,
)
from tidemill.storage.checksums import digest
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest_file import load_manifest


@functools.cache
def model() -> Path:
    directory = scratch_directory("calibration") / "model"
    write_tiny_model(directory, layers=1, extent_bytes=65536)
    return directory


@functools.cache
def seeds() -> list[bytes]:
    manifest = load_manifest(model())
    record = CalibrationRecord(
        format=CALIBRATION_FORMAT,
        model=model_identity(manifest),
        text=TextUsed("text", "0" * 16, 9),
        arrays={},
        allocation=(Allotment(0.5, {"qkv": 0.5}),),
        rank=0,
        predictors=(),
        card=None,
    )
    arrays = {name: np.zeros(shape, np.float32) for name, shape in array_shapes(manifest.decoder, 0).items()}
    content = save_calibration(model(), record, arrays).read_bytes()
    stored = load_record(content)
    return [content, stored]


def load_record(content: bytes) -> bytes:
    """The record's JSON in a file."""
    size = int.from_bytes(content[:8], "little")
    text: str = json.loads(content[8 : 8 + size])["__metadata__"][RECORD_KEY]
    return text.partition(" ")[2].encode()


def check(data: bytes) -> None:
    path = model() / CALIBRATION_FILE
    text = data.decode(errors="replace")
    wrapped = safetensors.numpy.save({}, {RECORD_KEY: f"{digest(text.encode())} {text}"})
    for content in (data, wrapped):
        path.write_bytes(content)
        try:
            calibration = CalibrationFile.open(model())
            for name in calibration.record.arrays:
                calibration.read(name)
        except (CalibrationError, StorageError) as error:
            assert str(error)
