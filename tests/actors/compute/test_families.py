"""Every family against transformers in float32, and against transformers in float64 for the tolerance.

Tolerance. Both sides compute the same real function in float32 with sums in different orders. The error of each is
that of
float32 against exact arithmetic, which is measured, not guessed: transformers run once more in float64 from the same
weights gives e = max |float32 - float64| for this checkpoint and prompt. Our error is of the same kind (each dot
product
of length K differs by at most γ_K = K·u/(1 - K·u) relative to Σ|w·x|, u = 2⁻²⁴, for any order of summation), so the two
may differ by the sum of two such errors; ours may be up to 4 times theirs (sequential partial sums over the MLP's
neurons
have a larger constant than torch's blocked ones), so |ours - float64| ≤ 4·e is demanded, with e not below 16 units in
the last place of the largest logit.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes.checkpoints import VOCAB, configurations, write_checkpoint
from tests.fakes.resident import greedy, logits_of, resident_decoder
from tidemill.storage.convert.convert import convert_model, verify_conversion

PROMPT = [1, 17, 99, 4, 150, 33, 33, 8, 120, 77, 64, 3, 190, 52, 21, 6, 87, 111, 5, 140, 2, 70, 13, 9, 180, 44, 31]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(configurations()))
def test_logits_and_greedy_tokens_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "hf", name, torch.float32)
    check_against(model, tmp_path)


@pytest.mark.parametrize(("name", "dtype"), [("smollm2", torch.bfloat16), ("qwen3", torch.float16)])
def test_half_precision_weights_are_computed_with_exactly(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "hf", name, dtype)
    check_against(model, tmp_path)


def check_against(model: torch.nn.Module, directory: Path) -> None:
    convert_model(directory / "hf", directory / "model")
    verify_conversion(directory / "hf", directory / "model")
    decoder = resident_decoder(directory / "model", chunk=len(PROMPT))
    ours = logits_of(decoder, PROMPT)
    tokens = greedy(decoder, PROMPT, 64)
    prompt = torch.tensor([PROMPT])
    with torch.no_grad():
        # Greedy is what has the most likely token behind each prefix, and one batch gives all of those.
        likeliest = model(torch.tensor([PROMPT + tokens[:-1]])).logits[0, len(PROMPT) - 1 :].argmax(-1).tolist()
        single = model(prompt).logits[0].numpy()
        exact = model.double()(prompt).logits[0].numpy()
    error = max(float(np.abs(single - exact).max()), 16 * float(np.spacing(np.float32(np.abs(exact).max()))))
    assert ours.shape == (len(PROMPT), VOCAB)
    assert float(np.abs(ours - exact).max()) <= 4 * error
    assert tokens == likeliest
