"""The perplexity of a converted checkpoint is the one that transformers computes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes.calibrations import window_options
from tests.fakes.checkpoints import VOCAB, write_checkpoint
from tidemill.runtime.engine import Engine
from tidemill.runtime.quality.scores import ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows
from tidemill.storage.convert.convert import convert_model

WINDOW = 48
TOKENS: list[int] = np.random.default_rng(8).integers(2, VOCAB - 1, 130).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_perplexity_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    """Both compute in f32 from the same bf16 weights: logits agree within some hundred units of roundoff."""
    reference = write_checkpoint(tmp_path / "source", name, torch.bfloat16)
    convert_model(tmp_path / "source", tmp_path / "model")
    nll, count = 0.0, 0
    for window in cut_windows(TOKENS, WINDOW):
        with torch.no_grad():
            logits = reference(torch.tensor([window])).logits[0, :-1].double()
        log_p = torch.log_softmax(logits, dim=-1)
        nll -= float(log_p[torch.arange(len(window) - 1), torch.tensor(window[1:])].sum())
        count += len(window) - 1
    with Engine.open(window_options(tmp_path / "model", window=WINDOW)) as engine:
        sums = ScoreSums(engine.manifest.decoder, 1)
        for _ in evaluate_windows(engine, cut_windows(TOKENS, WINDOW), sums, "test"):
            pass
    (exact,) = sums.qualities()
    assert exact.positions == count
    assert np.log(exact.perplexity) == pytest.approx(nll / count, abs=2e-4)
