"""Calibrations that say nothing but a quality card."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tidemill.runtime.calibration.calibration_file import array_shapes, model_identity, save_calibration
from tidemill.runtime.calibration.record import CALIBRATION_FORMAT, CalibrationRecord, Card, CardEntry, TextUsed
from tidemill.storage.manifest_file import load_manifest


def write_card(model: Path, ratios: Mapping[float, float]) -> None:
    """`ratios`: perplexity over the exact one by sparsity, of topk."""
    manifest = load_manifest(model)
    entries = tuple(
        CardEntry(
            selection=f"topk {sparsity:.0%}",
            sparsity=sparsity,
            weights_computed=1 - sparsity,
            perplexity=10 * ratio,
            kl=0.0,
            agreement=1.0,
        )
        for sparsity, ratio in ratios.items()
    )
    record = CalibrationRecord(
        format=CALIBRATION_FORMAT,
        model=model_identity(manifest),
        text=TextUsed("words", "0" * 16, 64),
        arrays={},
        allocation=(),
        rank=0,
        predictors=(),
        card=Card(text="words", tokens=64, exact_perplexity=10.0, entries=entries),
    )
    shapes = array_shapes(manifest.decoder, rank=0)
    save_calibration(model, record, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
