"""Compares next-token distributions of several variants of a model with those of the exact one, a run of the
vocabulary at a time, so that no distribution ever lies whole in memory."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

POSITION_BLOCK = 64  # positions whose logits of one extent of the head lie in memory together
SCORES = ("positions", "nll", "kl", "agreed")  # columns of `scores`


class LogitComparison:
    """Variant 0 is exact. Running maxima and sums of exponentials, as in a softmax over pieces.

    KL(exact ‖ variant) = Σ p (a - b) - log Σ e^a + log Σ e^b for logits a, b and p = softmax(a).
    """

    def __init__(self, variants: int, targets: I64) -> None:
        """`targets` [positions]: the token that really comes next."""
        shape = variants, len(targets)
        self._targets = targets
        self._top = np.full(shape, -np.inf)  # largest logit so far
        self._best: I64 = np.zeros(shape, np.int64)  # and its token
        self._sum = np.zeros(shape)  # Σ e^(logit - top)
        self._distance = np.zeros(shape)  # Σ e^(a - top of exact) (a - b)
        self._target = np.full(shape, np.nan)  # logit of the target

    def add(self, first_token: int, first_position: int, exact: F32, variants: list[F32]) -> None:
        """Logits [positions, tokens] of all variants but the exact one, for the same run of tokens and positions."""
        places = slice(first_position, first_position + exact.shape[0])
        shrink, weights = self._fold(0, places, first_token, exact)
        for variant, logits in enumerate(variants, 1):
            self._fold(variant, places, first_token, logits)
            apart = (weights * (exact - logits)).sum(axis=1, dtype=np.float64)
            self._distance[variant, places] = self._distance[variant, places] * shrink + apart

    def _fold(self, variant: int, places: slice, first_token: int, logits: F32) -> tuple[F64, F32]:
        """Take logits in; how much older sums shrink by the new maximum, and the exponentials."""
        best = logits.argmax(axis=1)
        rows = np.arange(logits.shape[0])
        top = logits[rows, best].astype(np.float64)
        before = self._top[variant, places]
        higher = top > before
        self._best[variant, places] = np.where(higher, first_token + best, self._best[variant, places])
        now = np.maximum(before, top)
        shrink = np.exp(before - now)
        weights = np.exp(logits - now.astype(np.float32)[:, None])
        self._sum[variant, places] = self._sum[variant, places] * shrink + weights.sum(axis=1, dtype=np.float64)
        self._top[variant, places] = now
        inside = self._targets[places] - first_token
        here = (inside >= 0) & (inside < logits.shape[1])
        self._target[variant, places][here] = logits[rows[here], inside[here]]
        return shrink, weights

    def scores(self) -> F64:
        """[variants, SCORES], summed over positions: how many, -log p of the target, KL in nats, and how often the
        likeliest token is that of the exact model."""
        log_sum = self._top + np.log(self._sum)
        nll = (log_sum - self._target).sum(axis=1)
        kl = self._distance / self._sum[0] - log_sum[0] + log_sum
        agreed = (self._best == self._best[0]).sum(axis=1)
        positions = np.full(len(nll), len(self._targets))
        return np.stack([positions, nll, np.maximum(kl, 0.0).sum(axis=1), agreed], axis=1)
