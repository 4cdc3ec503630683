"""A calibration that is damaged, foreign or missing is refused with a reason, and never computed with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save

from tests.fakes.models import TINY, write_tiny_model
from tidemill.actors.compute.selection.operators import OPERATORS
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
from tidemill.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    save_calibration(directory, record_of(directory), arrays())
    return directory


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tiny"))


def record_of(directory: Path) -> CalibrationRecord:
    return CalibrationRecord(
        format=CALIBRATION_FORMAT,
        model=model_identity(load_manifest(directory)),
        text=TextUsed("some text", "0" * 16, 99),
        arrays={},
        allocation=(Allotment(0.5, dict.fromkeys(OPERATORS, 0.5)),),
        rank=2,
        predictors=(),
        card=None,
    )


def arrays() -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
    rng = np.random.default_rng(0)
    return {name: rng.random(shape).astype(np.float32) for name, shape in array_shapes(TINY, 2).items()}


def test_what_was_saved_is_read_again(model: Path) -> None:
    calibration = CalibrationFile.open(model)
    assert calibration.record.text.tokens == 99
    for name, array in arrays().items():
        assert np.array_equal(calibration.read(name), array)


def test_a_model_that_was_never_calibrated_says_what_to_do(model: Path) -> None:
    (model / CALIBRATION_FILE).unlink()
    with pytest.raises(CalibrationError, match=r"not calibrated.*tidemill calibrate -m"):
        CalibrationFile.open(model)


def test_the_calibration_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    shutil.copy(model / CALIBRATION_FILE, tmp_path / "other")
    with pytest.raises(CalibrationError, match="belongs to another model: it names model"):
        CalibrationFile.open(tmp_path / "other")


@pytest.mark.parametrize("stop", [0, 5, 100, -1])
def test_a_file_that_was_cut_is_refused(model: Path, stop: int) -> None:
    path = model / CALIBRATION_FILE
    path.write_bytes(path.read_bytes()[:stop])
    with pytest.raises(CalibrationError, match="is damaged"):
        CalibrationFile.open(model)


def test_any_changed_byte_of_an_array_is_found(model: Path) -> None:
    path = model / CALIBRATION_FILE
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    calibration = CalibrationFile.open(model)
    failed = 0
    for name in arrays():
        try:
            calibration.read(name)
        except CalibrationError as error:
            assert "has digest" in str(error)
            failed += 1
    assert failed == 1


def rewrite(model: Path, change: Callable[[CalibrationRecord], CalibrationRecord], *, honest: bool = True) -> None:
    """The file with another record; not `honest`: its digest stays."""
    path = model / CALIBRATION_FILE
    with safe_open(path, framework="np") as file:
        before, _, text = file.metadata()[RECORD_KEY].partition(" ")
    text = msgspec.json.encode(change(msgspec.json.decode(text, type=CalibrationRecord))).decode()
    stamp = digest(text.encode()) if honest else before
    path.write_bytes(save(load_file(path), {RECORD_KEY: f"{stamp} {text}"}))


def test_a_changed_record_is_found_by_its_digest(model: Path) -> None:
    rewrite(model, lambda record: msgspec.structs.replace(record, rank=3), honest=False)
    with pytest.raises(CalibrationError, match="differs from its digest"):
        CalibrationFile.open(model)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: msgspec.structs.replace(r, format=99), "is of format 99"),
        (lambda r: msgspec.structs.replace(r, rank=-1), "rank -1 below 0"),
        (lambda r: msgspec.structs.replace(r, arrays={}), "it lists arrays"),
        (lambda r: msgspec.structs.replace(r, allocation=(Allotment(0.5, {"q": 1.5}),)), "a sparsity lies outside"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(
    model: Path, change: Callable[[CalibrationRecord], CalibrationRecord], what: str
) -> None:
    rewrite(model, change)
    with pytest.raises(CalibrationError, match=what):
        CalibrationFile.open(model)


def test_an_array_of_another_shape_is_refused_before_it_is_read(model: Path) -> None:
    rewrite(model, lambda record: msgspec.structs.replace(record, rank=3))
    with pytest.raises(CalibrationError, match=r"neuron\.inward is F32 .*expected F32"):
        CalibrationFile.open(model).read("neuron.inward")


def test_a_directory_in_its_place_is_no_calibration(model: Path) -> None:
    (model / CALIBRATION_FILE).unlink()
    (model / CALIBRATION_FILE).mkdir()
    with pytest.raises(CalibrationError, match="not calibrated"):
        CalibrationFile.open(model)
