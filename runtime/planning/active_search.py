"""Chooses how to decode with active weights: the sparsity, then among layouts and preloads the fastest. Pure.

ActiveFlow's procedure, as quality depends on the sparsity alone: the least sparsity whose active weights fit the
ceiling, or the most that the user's floor on quality allows (more is never slower); then N, cache and preload.
Corrected: what must fit is what the ledger counts (processes, KV cache, activations, whatever is not selected from),
the cache is what the ledger leaves, not a choice, and as a larger N may read more than its longer reads are worth,
every layout that there is, is tried with every preload.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.actors.compute.selection.operators import SPARSITY_MAX
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.calibration.record import Card
from tidemill.runtime.planning.active_run import ActiveRun

SHARES = (0.25, 0.5, 1.0)  # of a preload
SPARSITY_STEP = 0.01  # finer would promise what nobody measured


class NoActivePlanError(ValueError):
    """No sparsity that was measured fits the ceiling or the quality asked for."""


@dataclass(frozen=True, slots=True)
class QualityCurve:
    """Perplexity over the exact model's, by sparsity: (0, 1) and what the card has, rising."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, card: Card, selection: SelectionSpec) -> "QualityCurve":
        """Of the card's entries that differ from `selection` in their sparsity alone. Raises NoActivePlanError."""
        family = _family(selection.name)
        found = {
            e.sparsity: e.perplexity / card.exact_perplexity for e in card.entries if _family(e.selection) == family
        }
        if not found:
            raise NoActivePlanError(
                f"the quality card has no {family or selection.name}: give a --sparsity, or calibrate with a card"
            )
        return cls(((0.0, 1.0), *sorted((s, max(1.0, ratio)) for s, ratio in found.items() if s > 0)))

    def ratio(self, sparsity: float) -> float:
        """Its logarithm is taken to be linear between what was measured; beyond that it is not known: infinite."""
        sparsities, ratios = zip(*self.points, strict=True)
        if sparsity > sparsities[-1]:
            return math.inf
        return float(np.exp(np.interp(sparsity, sparsities, np.log(ratios))))

    def most_sparsity(self, worst_ratio: float) -> float:
        """The most that keeps the floor, in whole steps. Raises NoActivePlanError where none does."""
        kept = [s for s in _steps() if self.ratio(s) <= worst_ratio]
        if not kept or kept[-1] == 0.0:
            raise NoActivePlanError(
                f"a perplexity of at most {worst_ratio:.3f} times the exact one allows no sparsity: at "
                f"{SPARSITY_STEP:.0%} it is {self.ratio(SPARSITY_STEP):.3f} times; allow more, or decode exactly"
            )
        return kept[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One way to run, and why its sparsity."""

    place: int  # of the model among those given
    sparsity: float
    preload: PreloadKind
    preload_share: float
    ratio: float  # perplexity over the exact model's, as far as the card knows
    run: ActiveRun

    @property
    def token_s(self) -> float:
        return self.run.prediction.decode_s_per_token


def least_sparsity(active_bytes: int, room_bytes: int, curve: QualityCurve) -> float:
    """ActiveFlow's bound: sp ≥ 1 - (M_max - M_kv - activations - resident) / S_m, S_m being
    `active_bytes` and what is divided by it `room_bytes`; in whole steps.

    Raises NoActivePlanError beyond what the card measured.
    """
    needed = 1 - room_bytes / active_bytes if active_bytes else 0.0
    fitting = [s for s in _steps() if s >= needed - 1e-9 and math.isfinite(curve.ratio(s))]
    if not fitting:
        most = curve.points[-1][0]
        raise NoActivePlanError(
            f"what one token computes with fits the ceiling from a sparsity of {needed:.0%} on, and no quality was "
            f"measured beyond {most:.0%}; raise --ram, or give a --sparsity"
        )
    return fitting[0]


def search(
    sparsity: float,
    ratio: float,
    preloads: Sequence[PreloadKind],
    predict: Callable[[int, float, PreloadKind, float], ActiveRun],
) -> tuple[Found, ...]:
    """Every way, the fastest first. `preloads`: of each model, what it can be preloaded by. `predict(place, sparsity,
    preload, share)` may raise ValueError for a model that does not fit the ceiling; where none fits, so does this."""
    found: list[Found] = []
    problem: ValueError | None = None
    for place, kind in enumerate(preloads):
        nothing: tuple[PreloadKind, float] = ("none", 0.0)
        for preload, share in (nothing, *((kind, share) for share in SHARES if kind != "none")):
            try:
                run = predict(place, sparsity, preload, share)
            except ValueError as error:
                problem = error
                continue
            found.append(
                Found(place=place, sparsity=sparsity, preload=preload, preload_share=share, ratio=ratio, run=run)
            )
    if not found:
        raise problem or NoActivePlanError("no model was given")
    return tuple(sorted(found, key=lambda way: way.token_s))


def _steps() -> list[float]:
    return [round(i * SPARSITY_STEP, 10) for i in range(round(SPARSITY_MAX / SPARSITY_STEP) + 1)]


def _family(name: str) -> str:
    """A selection's name without its sparsity."""
    return " ".join(word for word in name.split(" ") if not word.endswith("%"))
