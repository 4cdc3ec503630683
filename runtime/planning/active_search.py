"""Chooses how to decode with active weights: sparsity, then the layer group's size, then cache and preload. Pure.

ActiveFlow's procedure, as quality depends on sparsity alone: the least sparsity whose active weights fit the ceiling,
or the user's floor on quality, then N grows while it pays, and the rest of the ceiling is cache. Corrected: what must
fit is what predict_active counts (KV cache, activations, the locked group, buffers), and as a bigger N locks more
layers and may cost more cache than its longer reads are worth, every measured N is tried; there are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.runtime.planning.active import (
    ActiveBehaviour,
    ActiveChoice,
    ActiveCosts,
    ActivePrediction,
    ActiveShape,
    predict_active,
)
from tidemill.runtime.planning.rates import MachineRates

PRELOAD_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
BISECTIONS = 24  # of the cache share: 6e-8 of the weights, below a bundle


class NoActivePlanError(ValueError):
    """No sparsity, group and cache that were measured fit the ceiling and the quality asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One sparsity: how it behaves, and what it costs, as perplexity over the exact model's (1.0: nothing)."""

    behaviour: ActiveBehaviour
    perplexity_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePlan:
    behaviour: ActiveBehaviour
    choice: ActiveChoice
    prediction: ActivePrediction
    perplexity_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is given: the machine's rates and costs, and the ceiling in bytes."""

    rates: MachineRates
    costs: ActiveCosts
    ceiling_bytes: int


def plan_active(
    shape: ActiveShape, candidates: Sequence[Candidate], machine: Machine, worst_perplexity_ratio: float | None
) -> ActivePlan:
    """`worst_perplexity_ratio` is the user's floor on quality: the fastest plan that keeps it. None: by the ceiling,
    the least sparsity whose active weights fit it, cached or not, and the fastest plan at that.

    Raises NoActivePlanError, which says what would do.
    """
    plans = []
    for candidate in sorted(candidates, key=lambda c: c.behaviour.sparsity):
        if worst_perplexity_ratio is not None and candidate.perplexity_ratio > worst_perplexity_ratio:
            continue
        if worst_perplexity_ratio is None and not _holds_active(shape, candidate.behaviour, machine.ceiling_bytes):
            continue
        plan = _fastest(shape, candidate, machine)
        if plan is not None:
            plans.append(plan)
            if worst_perplexity_ratio is None:
                break
    if not plans:
        raise NoActivePlanError(_reason(shape, candidates, machine, worst_perplexity_ratio))
    return min(plans, key=lambda plan: plan.prediction.token_s)


def largest_cache_share(
    shape: ActiveShape, behaviour: ActiveBehaviour, machine: Machine, group: int, preload_share: float
) -> float | None:
    """The most that the ceiling holds beside everything else; None when not even an empty cache fits. More cache means
    smaller buffers, but never by as much: memory rises with the share."""

    def fits(share: float) -> bool:
        choice = ActiveChoice(group=group, cache_share=share, preload_share=preload_share)
        prediction = predict_active(shape, behaviour, choice, machine.rates, machine.costs)
        return prediction.memory_bytes <= machine.ceiling_bytes

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    if not fits(low):
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fastest(shape: ActiveShape, candidate: Candidate, machine: Machine) -> ActivePlan | None:
    """The caller's candidates are few, so are group sizes and preload shares: all are tried, with the largest cache."""
    plans = []
    for group in sorted(candidate.behaviour.recalls):
        for preload_share in PRELOAD_SHARES:
            share = largest_cache_share(shape, candidate.behaviour, machine, group, preload_share)
            if share is None:
                continue
            choice = ActiveChoice(group=group, cache_share=share, preload_share=preload_share)
            prediction = predict_active(shape, candidate.behaviour, choice, machine.rates, machine.costs)
            plans.append(
                ActivePlan(
                    behaviour=candidate.behaviour,
                    choice=choice,
                    prediction=prediction,
                    perplexity_ratio=candidate.perplexity_ratio,
                )
            )
    return min(plans, key=lambda plan: plan.prediction.token_s, default=None)


def _holds_active(shape: ActiveShape, behaviour: ActiveBehaviour, ceiling_bytes: int) -> bool:
    """sp ≥ 1 - (M_max - M_kv - activations - resident) / S_m"""
    active = shape.layer_count * shape.layer_bytes * (1 - behaviour.sparsity)
    return active + shape.resident_bytes + shape.kv_bytes + shape.activation_bytes <= ceiling_bytes


def _reason(
    shape: ActiveShape, candidates: Sequence[Candidate], machine: Machine, worst_perplexity_ratio: float | None
) -> str:
    if not candidates:
        return "no sparsity was calibrated: calibrate the model first"
    best = min(candidate.perplexity_ratio for candidate in candidates)
    if worst_perplexity_ratio is not None and best > worst_perplexity_ratio:
        return (
            f"the best calibrated sparsity has {best:.3f} times the exact perplexity, at most "
            f"{worst_perplexity_ratio:.3f} was asked for; allow more, or decode exactly"
        )
    sparsest = max(candidates, key=lambda candidate: candidate.behaviour.sparsity).behaviour
    least = _least_memory(shape, sparsest, machine)
    if worst_perplexity_ratio is None:
        active = shape.layer_count * shape.layer_bytes * (1 - sparsest.sparsity)
        least = max(least, round(active) + shape.resident_bytes + shape.kv_bytes + shape.activation_bytes)
    return (
        f"the ceiling of {machine.ceiling_bytes} bytes holds no plan at the sparsities calibrated (up to "
        f"{sparsest.sparsity:.0%}, which needs {least} bytes); raise --ram or shorten the context"
    )


def _least_memory(shape: ActiveShape, behaviour: ActiveBehaviour, machine: Machine) -> int:
    choices = [ActiveChoice(group=group, cache_share=0.0, preload_share=0.0) for group in behaviour.recalls]
    predictions = [predict_active(shape, behaviour, choice, machine.rates, machine.costs) for choice in choices]
    return min(prediction.memory_bytes for prediction in predictions)
