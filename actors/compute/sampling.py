"""Draws tokens from logits. Greedy at temperature 0; else penalty → top-k → top-p → min-p → temperature → draw.

The draw is argmax(logit / T + g) over the ids that the filters keep, g being Gumbel noise, which is distributed as
softmax(logit / T) (Maddison, Tarlow, Minka, "A* sampling", NeurIPS 2014, section 2). g is a function of (seed,
position, id) alone, so a token is one of (seed, position, logits, history): the same seed gives the same text whatever
the batching, and whether it was drafted or not.

A draft that draws with the same g from its own logits couples its distribution Q to the exact P without communication.
With u = exp(-exp(-g)) both take the least of -ln u_j / P_j and of -ln u_j / Q_j, independent exponential variables, so
both take i if -ln u_i is the least of -ln u_j / max(P_j / P_i, Q_j / Q_i): they agree with probability
Σ_i 1 / Σ_j max(P_j / P_i, Q_j / Q_i) ≥ (1 - d) / (1 + d), d their total variation distance. In the worst case nothing
does better that doesn't know both, and what does know both agrees 1 - d of the time (Daliri, Musco, Suresh, "Coupling
without communication and drafter-invariant speculative decoding", arXiv 2408.07978).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.gumbel_noise import gumbel_noise
from tidemill.actors.messages import Sampling

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

DRAW_BLOCK = 8192  # ids scored at a time: they stay in the L2 cache, and no array is large enough to be mapped anew
LEAST_TEMPERATURE = 1e-260  # the difference of two f32 over this is finite in f64
BINS_PER_UNIT, BIN_COUNT = np.float32(16.0), 512  # of the histogram below the highest logit; the last holds the rest


class Ranked(NamedTuple):
    """A token, the `second` choice, and how far that lies behind it: in logits, T · noise with them."""

    token: int
    second: int
    gap: float


def sample(logits: F32, sampling: Sampling, history: Sequence[int], *, position: int) -> int:
    """A token id for f32 logits [vocab], to stand at `position`. Ties go to the lowest id. `history` are the tokens
    that the penalty looks at, in any order.

    0.04 to 0.7 ms for 49,152 ids, 0.1 to 5 ms for 262,144 (min-p alone, top-p alone on flat logits).
    """
    if sampling.repeat_penalty != 1.0:
        logits = _penalise(logits, sampling.repeat_penalty, history)
    if sampling.temperature == 0.0:
        return int(np.argmax(logits))
    return _draw(logits, _keep(logits, sampling), sampling, position)[0][1]


def rank(logits: F32, sampling: Sampling, history: Sequence[int], *, position: int) -> Ranked:
    """What `sample` takes, and what it would take next. Where the filters leave one id, no noise tells how near another
    one came: the logits do, as at temperature 0. Needs two ids."""
    if sampling.repeat_penalty != 1.0:
        logits = _penalise(logits, sampling.repeat_penalty, history)
    token = -1
    if sampling.temperature != 0.0:
        (best, token), *others = _draw(logits, _keep(logits, sampling), sampling, position)
        if others:
            return Ranked(token, others[0][1], sampling.temperature * (best - others[0][0]))
    token = int(np.argmax(logits)) if token < 0 else token
    behind = logits.copy()
    behind[token] = -np.inf
    second = int(np.argmax(behind))
    return Ranked(token, second, float(logits[token]) - float(logits[second]))


def sample_positions(
    logits: F32, sampling: Sampling, history: Sequence[int], *, start: int, proposed: Sequence[int]
) -> list[int]:
    """The tokens that decoding one by one would have drawn: at least one, at most B.

    `logits` [B, vocab]: row i was computed with proposed[:i] behind the `history` and draws the token at `start` + i.
    The first that differs from what was `proposed` [B - 1] is the last, for the rows behind it followed a wrong token.
    """
    # [B, vocab], [B - 1]
    assert len(proposed) == len(logits) - 1
    seen = list(dict.fromkeys(history)) if sampling.repeat_penalty != 1.0 else []
    accepted: list[int] = []
    for row, position in zip(logits, range(start, start + len(logits)), strict=True):
        token = sample(row, sampling, seen, position=position)
        if len(accepted) == len(proposed) or token != proposed[len(accepted)]:
            return [*accepted, token]
        accepted.append(token)
        seen.append(token)
    return accepted


def _penalise(logits: F32, penalty: float, history: Sequence[int]) -> F32:
    """Divide the positive and multiply the negative logits of tokens seen (CTRL, section 4.1)."""
    seen = np.unique(np.asarray(history, dtype=np.int64))
    penalised = logits.copy()
    penalised[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return penalised


def _keep(logits: F32, sampling: Sampling) -> I64 | None:
    """The ids that the filters leave, ascending; None: all."""
    ids: I64 | None = None
    if 0 < sampling.top_k < len(logits):
        ids = _highest(logits, sampling.top_k)
    if sampling.top_p < 1.0:
        ids = _nucleus(logits, ids, sampling.top_p)
    if sampling.min_p > 0.0:
        # probability >= min_p of the highest's; f64, so that the difference is exact
        floor = float(logits.max()) + math.log(sampling.min_p)
        ids = np.flatnonzero(logits >= floor) if ids is None else ids[logits[ids] >= floor]
    return None if ids is None else np.sort(ids)


def _highest(logits: F32, count: int) -> I64:
    """The ids of the `count` highest logits, highest first, the lower id first of equals."""
    cut = np.partition(logits, len(logits) - count)[len(logits) - count]
    return _ordered(logits, np.flatnonzero(logits >= cut))[:count]


def _nucleus(logits: F32, ids: I64 | None, top_p: float) -> I64:
    """The first of `ids` (None: all), highest first, that make up `top_p` of their probability; at least one.

    Only what lies at the cut is sorted: a histogram over the logits finds it.
    """
    pool = logits if ids is None else logits[ids]
    below = pool.max() - pool
    weights = np.exp(-below).astype(np.float64)
    bins = np.minimum(below * BINS_PER_UNIT, BIN_COUNT - 1).astype(np.int32)
    mass = np.cumsum(np.bincount(bins, weights, BIN_COUNT))
    enough = top_p * float(mass[-1])
    cut = min(int(np.searchsorted(mass, enough)), BIN_COUNT - 1)
    above, at = np.flatnonzero(bins < cut), _ordered(pool, np.flatnonzero(bins == cut))
    missing = enough - (float(mass[cut - 1]) if cut else 0.0)
    count = int(np.searchsorted(np.cumsum(weights[at]), missing)) + 1
    among = np.concatenate([above, at[:count]])
    return among if ids is None else ids[among]


def _ordered(logits: F32, ids: I64) -> I64:
    """Ascending `ids` by their logits, highest first, the lower id first of equals."""
    return ids[np.argsort(-logits[ids], kind="stable")]


def _draw(logits: F32, ids: I64 | None, sampling: Sampling, position: int) -> list[tuple[float, int]]:
    """The two highest of (logit / T + g, id), of ascending `ids` (None: all); ties go to the lower id."""
    kept = np.arange(len(logits)) if ids is None else ids
    highest = float(logits[kept].max())
    leaders: list[tuple[float, int]] = []
    for start in range(0, len(kept), DRAW_BLOCK):
        block = kept[start : start + DRAW_BLOCK]
        scores = logits[block].astype(np.float64)
        scores -= highest  # moves no argmax
        scores /= max(sampling.temperature, LEAST_TEMPERATURE)
        scores += gumbel_noise(sampling.seed, position, block)
        for _ in range(min(2, len(block))):
            first = int(np.argmax(scores))
            leaders.append((float(scores[first]), int(block[first])))
            scores[first] = -np.inf
    return sorted(leaders, key=lambda leader: (-leader[0], leader[1]))[:2]
