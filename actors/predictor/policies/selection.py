"""From scores to what is preloaded: the best channels within a budget, for a layer or for a group of layers. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.actors.predictor.policies.policy import F32, U32, InputKind, PreloadPolicy


@dataclass(frozen=True, slots=True)
class Preload:
    """Channels in ascending order, as the read planner wants them, and how likely each is: who can't read all of them
    drops those with the lowest scores."""

    channels: U32
    scores: F32


@dataclass(frozen=True, slots=True)
class GroupPreload:
    """What to preload of one input of a layer group: each channel is read for all of its layers at once."""

    kind: InputKind
    preload: Preload


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


def plan_group_preload(
    policy: PreloadPolicy, layers: range, source_layer: int, budgets: Mapping[InputKind, int]
) -> Sequence[GroupPreload]:
    """What to preload for the group `layers` when `source_layer` is known. `budgets`: channels of each input, each of
    them counting once for all layers. Group 0 is never predicted: nothing of its token is known before it.

    Raises ValueError for a group that begins with layer 0 or isn't above the source.
    """
    if layers.start == 0:
        raise ValueError("layer group 0 cannot be predicted: nothing of its token is known before it; lock it")
    if source_layer >= layers.start:
        raise ValueError(f"layers {layers.start}..{layers.stop - 1} are not above layer {source_layer}, the source")
    plans = []
    for kind, budget in budgets.items():
        scores = group_score(policy, layers, kind, source_layer)
        if scores is not None and budget > 0:
            plans.append(GroupPreload(kind, choose_channels(scores, budget)))
    return plans


def bundle_budget(bytes_left: int, bundle_bytes: int, layers: int) -> int:
    """How many channels of a group of `layers` fit `bytes_left`, each being `layers` bundles of `bundle_bytes`."""
    return max(0, bytes_left // (bundle_bytes * layers))
