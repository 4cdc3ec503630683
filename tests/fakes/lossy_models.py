"""A small calibrated model in each layout that lossy runs read, all of one source."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.fakes.calibrations import calibrate_tiny
from tests.fakes.layouts import write_blocky_model
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.calibration.record import CALIBRATION_FILE
from tidemill.storage.convert.tables import LayoutChoice

CHOICES: Mapping[str, LayoutChoice] = {
    "channels": LayoutChoice("input-channel", 1),
    "groups": LayoutChoice("input-channel", 3),
    "gates": LayoutChoice("gate-first", 1),
    "neurons": LayoutChoice("neuron", 1),
}
HALF_OF: Mapping[str, SelectionSpec] = {
    "channels": SelectionSpec(policy="topk", sparsity=0.5),
    "groups": SelectionSpec(policy="topk", sparsity=0.5),
    "gates": SelectionSpec(policy="gate", sparsity=0.5),
    "neurons": SelectionSpec(policy="neuron", sparsity=0.5),
}


def write_lossy_models(root: Path) -> Mapping[str, Path]:
    """By layout, and `dense`, which the calibration is made with."""
    write_blocky_model(root / "dense", LayoutChoice("dense", 1))
    calibrate_tiny(root / "dense", tokens=512, card_tokens=0)
    for name, choice in CHOICES.items():
        write_blocky_model(root / name, choice)
        shutil.copy(root / "dense" / CALIBRATION_FILE, root / name / CALIBRATION_FILE)
    return {name: root / name for name in ("dense", *CHOICES)}
