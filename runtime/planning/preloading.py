"""What a predictor of a stated skill would preload of a visit that is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.compute.selection.operators import InputKind

Bundles = npt.NDArray[np.int64]
NOTHING: Bundles = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloading:
    """`skill` by kind of input: the correlation of what is predicted with what the token scores. `share`: of the active
    channels, how many are preloaded."""

    share: float
    skill: Mapping[InputKind, float]

    def guess(self, kind: InputKind, active: Ids, channels: int, rng: np.random.Generator) -> Bundles:
        """Channels that a predictor of that skill would choose where `active` are the right ones, rising.

        True scores are drawn as normal, the active ones above the rest; the predictor sees them through noise.
        """
        count = int(self.share * active.size)
        skill = self.skill.get(kind, 0.0)
        drawn = np.sort(rng.standard_normal(channels))
        scores = np.empty(channels)
        is_active = np.zeros(channels, np.bool_)
        is_active[active] = True
        scores[is_active] = rng.permutation(drawn[channels - active.size :])
        scores[~is_active] = rng.permutation(drawn[: channels - active.size])
        seen = skill * scores + np.sqrt(1 - skill**2) * rng.standard_normal(channels)
        if not count:
            return NOTHING
        cut = channels - count
        guessed: Bundles = np.sort(np.argpartition(seen, cut)[cut:])
        return guessed
