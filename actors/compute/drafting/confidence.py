"""How likely a drafted token is right, from how far the drafter's second choice lay behind it.

The logits that draft are the exact ones and noise, so which of two comes out first in the exact ones is a matter of the
gap between them beside that noise: 1 / (1 + exp(-gap / scale)). One parameter, which drafts that were checked correct.
The drafter's own probability tells less: a flat distribution may well be decided safely.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tidemill.actors.compute.drafting.spec import DraftKind

# In logits. Planes: over 2,048 chains of plane 0 of SmolLM2-135M (benchmarks/draft_chains.py) 0.3 is the likeliest and
# 0.5 decodes fastest, 1 % before 0.3. Another model's logits are no coarse reading of the exact ones.
FIRST_SCALES: Mapping[DraftKind, float] = MappingProxyType({"planes": 0.4, "model": 1.0})
RATE = 0.05  # of the scale's logarithm, per token more that was wrong than was expected
LEAST_SCALE, MOST_SCALE = 0.01, 100.0


class Confidence:
    """Of one kind of draft, in the text that is decoded."""

    def __init__(self, kind: DraftKind) -> None:
        self._scale = FIRST_SCALES[kind]

    def chance(self, gap: float) -> float:
        """`gap` in logits, 0 or more."""
        return 1.0 / (1.0 + math.exp(-gap / self._scale))

    def observe(self, gaps: Sequence[float], accepted: int) -> None:
        """Of a chain's tokens, of which the first `accepted` were right. What is behind the first wrong one says
        nothing. The scale is where as many are wrong as are expected to be (Robbins, Monro, 1951)."""
        for depth, gap in enumerate(gaps[: accepted + 1]):
            surprise = self.chance(gap) - (depth < accepted)
            scale = self._scale * math.exp(RATE * surprise)
            self._scale = min(max(scale, LEAST_SCALE), MOST_SCALE)
