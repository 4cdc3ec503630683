"""Sums over windows of text, and the figures that they become."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.logit_comparison import SCORES
from tidemill.actors.compute.selection.operators import OPERATORS, Operator, operator_weights
from tidemill.actors.messages import WindowEvaluated
from tidemill.storage.decoder_spec import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Of one variant over all positions. `weights_computed` is the share of the layers' weights."""

    positions: int
    perplexity: float
    perplexity_error: float | None  # standard error, from the spread between windows; None for a single one
    kl: float  # nats per token, to the exact model
    agreement: float
    densities: Mapping[Operator, float]
    weights_computed: float


class ScoreSums:
    """Adds windows up; variant 0 is the exact model."""

    def __init__(self, spec: DecoderSpec, variants: int) -> None:
        sizes = spec.hidden_size, spec.q_size, spec.kv_size, spec.ff_size
        self._weights = np.array([operator_weights(operator, *sizes) for operator in OPERATORS], float)
        self._variants = variants
        self._windows: list[npt.NDArray[np.float64]] = []  # [variants, scores and densities] of each

    def add(self, window: WindowEvaluated) -> None:
        scores = np.frombuffer(window.scores, "<f8").reshape(self._variants, len(SCORES))
        densities = np.frombuffer(window.densities, "<f8").reshape(self._variants, len(OPERATORS))
        self._windows.append(np.concatenate([scores, densities], axis=1))

    @property
    def positions(self) -> int:
        return int(sum(window[0, 0] for window in self._windows))

    def perplexities(self) -> tuple[float, ...]:
        """Of every variant so far; empty before the first window."""
        if not self._windows:
            return ()
        totals = np.sum([window[:, :2] for window in self._windows], axis=0)
        return tuple(np.exp(totals[:, 1] / totals[:, 0]).tolist())

    def qualities(self) -> Sequence[Quality]:
        """Of every variant, over all windows so far; at least one."""
        windows = np.stack(self._windows)
        return [self._quality(windows[:, variant]) for variant in range(self._variants)]

    def _quality(self, windows: npt.NDArray[np.float64]) -> Quality:
        counts = windows[:, 0]
        total = counts.sum()
        nll = windows[:, 1].sum() / total
        densities = (windows[:, len(SCORES) :] * counts[:, None]).sum(axis=0) / total
        return Quality(
            positions=int(total),
            perplexity=math.exp(nll),
            perplexity_error=_perplexity_error(nll, windows[:, 1] / counts),
            kl=float(windows[:, 2].sum() / total),
            agreement=float(windows[:, 3].sum() / total),
            densities=dict(zip(OPERATORS, densities.tolist(), strict=True)),
            weights_computed=float(densities @ self._weights / self._weights.sum()),
        )


def _perplexity_error(nll: float, means: npt.NDArray[np.float64]) -> float | None:
    if len(means) < 2:
        return None
    return float(math.exp(nll) * means.std(ddof=1) / math.sqrt(len(means)))
