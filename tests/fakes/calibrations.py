"""A calibration of a tiny model, made by the real calibrator on words drawn from a seed."""

from pathlib import Path

import numpy as np

from tests.fakes.models import TINY
from tidemill.runtime.calibration.calibrate import CalibrationRequest, Calibrator
from tidemill.runtime.calibration.record import CalibrationRecord, TextUsed
from tidemill.runtime.options import EngineOptions

WINDOW = 64


def random_tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, TINY.vocab_size, count).tolist()  # type: ignore[no-any-return]


def window_options(model: Path, *, window: int = WINDOW) -> EngineOptions:
    """In this process, resident."""
    return EngineOptions(
        model=model,
        ram_bytes=None,
        arena_bytes=None,
        context=window,
        threads=2,
        load_mode="buffered",
        launcher="in-process",
        io_depth=2,
        window=window,
    )


def calibrate_tiny(model: Path, *, rank: int = 8, tokens: int = 1024, card_tokens: int = 128) -> CalibrationRecord:
    token_ids = random_tokens(tokens, seed=1)
    request = CalibrationRequest(
        options=window_options(model),
        text=TextUsed("words", "0" * 16, tokens),
        token_ids=token_ids,
        rank=rank,
        card_tokens=card_tokens,
        seed=0,
    )
    calibrator = Calibrator(request)
    for _ in calibrator.run():
        pass
    assert calibrator.record is not None
    return calibrator.record
