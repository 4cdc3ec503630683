"""Against float64 softmaxes of whole rows."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.actors.compute.logit_comparison import LogitComparison

POSITIONS, VOCAB, VARIANTS = 7, 50, 3
RNG = np.random.default_rng(3)
LOGITS = (RNG.standard_normal((VARIANTS, POSITIONS, VOCAB)) * 6).astype(np.float32)
TARGETS = RNG.integers(0, VOCAB, POSITIONS)


def compared(logits: npt.NDArray[np.float32], cuts: list[int]) -> npt.NDArray[np.float64]:
    comparison = LogitComparison(len(logits), TARGETS)
    for start, stop in pairwise(cuts):
        for first, last in ((0, 3), (3, POSITIONS)):
            exact, *others = logits[:, first:last, start:stop]
            comparison.add(start, first, exact, others)
    return comparison.scores()


@pytest.mark.parametrize("cuts", [[0, VOCAB], [0, 1, 17, 18, VOCAB], list(range(VOCAB + 1))])
def test_pieces_of_the_vocabulary_give_the_figures_of_the_whole(cuts: list[int]) -> None:
    wide = LOGITS.astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(axis=2, keepdims=True))
    kl = (np.exp(log_p[0]) * (log_p[0] - log_p)).sum(axis=2).sum(axis=1)
    nll = -log_p[:, np.arange(POSITIONS), TARGETS].sum(axis=1)
    agreed = (LOGITS.argmax(axis=2) == LOGITS[0].argmax(axis=1)).sum(axis=1)
    got = compared(LOGITS, cuts)
    assert got[:, 0].tolist() == [POSITIONS] * VARIANTS
    # Exponentials are f32: each has a relative error of some units of roundoff, 2⁻²⁴, and so have their sums.
    assert np.allclose(got[:, 1], nll, atol=1e-5)
    assert np.allclose(got[:, 2], kl, atol=1e-4)
    assert got[:, 3].tolist() == agreed.tolist()


def test_a_variant_with_the_exact_logits_is_at_no_distance_at_all() -> None:
    got = compared(np.stack([LOGITS[0], LOGITS[0]]), [0, 20, VOCAB])
    assert got[1, 2] == 0.0
    assert got[1, 3] == POSITIONS
    assert got[0, 1] == got[1, 1]


def test_of_equal_logits_the_first_token_is_the_likeliest() -> None:
    flat = np.zeros((2, POSITIONS, VOCAB), np.float32)
    flat[1, :, 30] = 1.0
    assert compared(flat, [0, 10, VOCAB])[1, 3] == 0
    assert compared(np.zeros((2, POSITIONS, VOCAB), np.float32), [0, 10, VOCAB])[1, 3] == POSITIONS
