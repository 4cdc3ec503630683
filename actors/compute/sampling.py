"""Draws a token from logits. Greedy at temperature 0; else penalty → top-k → top-p → min-p → temperature → draw.

Every draw is a function of (seed, position, logits) alone, so the same seed gives the same text whatever the batching.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import Sampling

F32 = npt.NDArray[np.float32]


def sample(logits: F32, sampling: Sampling, history: Sequence[int], *, position: int) -> int:
    """A token id for f32 logits [vocab]. Ties go to the lowest id. `history` are the tokens that the penalty looks
    at."""
    if sampling.repeat_penalty != 1.0:
        logits = _penalise(logits, sampling.repeat_penalty, history)
    if sampling.temperature == 0.0:
        return int(np.argmax(logits))
    ids = np.argsort(-logits, kind="stable")
    if sampling.top_k > 0:
        ids = ids[: sampling.top_k]
    ids = ids[: _nucleus(logits[ids], sampling.top_p)]
    probabilities = _softmax(logits[ids])
    ids = ids[probabilities >= sampling.min_p * probabilities[0]]
    probabilities = _softmax(logits[ids] / sampling.temperature)
    uniform = np.random.Generator(np.random.Philox(key=sampling.seed, counter=position)).random()
    drawn = int(np.searchsorted(np.cumsum(probabilities), uniform, side="right"))
    return int(ids[min(drawn, len(ids) - 1)])


def _penalise(logits: F32, penalty: float, history: Sequence[int]) -> F32:
    """Divide the positive and multiply the negative logits of tokens seen (CTRL, section 4.1)."""
    seen = np.unique(np.asarray(history, dtype=np.int64))
    penalised = logits.copy()
    penalised[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return penalised


def _nucleus(ordered: F32, top_p: float) -> int:
    """How many of the logits, highest first, make up at least `top_p` of the probability; at least one."""
    if top_p >= 1.0:
        return len(ordered)
    return int(np.searchsorted(np.cumsum(_softmax(ordered)), top_p)) + 1


def _softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(shifted / shifted.sum())
