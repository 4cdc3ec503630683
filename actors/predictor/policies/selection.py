"""From scores to what is preloaded: the best channels within a budget, for a layer or for a group of layers. Pure."""

from dataclasses import dataclass

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, U32, InputKind, PreloadPolicy


@dataclass(frozen=True, slots=True)
class Preload:
    """Channels in ascending order, as the read planner wants them, and how likely each is: who can't read all of them
    drops those with the lowest scores."""

    channels: U32
    scores: F32


def choose_channels(scores: F32, budget: int) -> Preload:
    """The `budget` channels with the highest positive scores; of equal ones, the lower channel."""
    positive = np.flatnonzero(scores > 0)
    if budget <= 0:
        positive = positive[:0]
    elif len(positive) > budget:
        found = scores[positive]
        bound = np.partition(found, len(found) - budget)[len(found) - budget]
        above, equal = positive[found > bound], positive[found == bound]
        positive = np.sort(np.concatenate([above, equal[: budget - len(above)]]))
    return Preload(positive.astype(np.uint32), scores[positive])


def group_score(policy: PreloadPolicy, layers: range, kind: InputKind, source_layer: int) -> F32 | None:
    """Scores of the channels for a whole group: the sum over its layers, each layer's scaled to a sum of 1, so that
    none outvotes the others. None when the policy knows nothing of any of them."""
    total: F32 | None = None
    for layer in layers:
        scores = policy.score(layer, kind, source_layer)
        if scores is None:
            continue
        positive = np.maximum(scores, 0)
        share = positive / max(float(positive.sum(dtype=np.float64)), np.finfo(np.float32).tiny)
        total = share if total is None else total + share
    return total
