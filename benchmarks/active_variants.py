"""What active_weights.py compares: conversions of one model, runs of them, and in which order they are measured. Pure.

A *set* answers one question; a variant that several sets ask for is measured once a point.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from benchmarks.fixtures.wide_order import Copies
from tidemill.storage.convert.trace_order import OrderBy
from tidemill.storage.manifest import ModelLayout

SetName = Literal["policies", "groups", "cache", "preload", "orders"]
SETS: tuple[SetName, ...] = get_args(SetName)
PRELOADS = {  # of each policy; the first after none is the one that is meant for it
    "topk": ("none", "scaled", "cross-layer", "previous-token", "popularity"),
    "gate": ("none", "look-ahead", "previous-token", "popularity"),
    "neuron": ("none", "look-ahead", "previous-token", "popularity"),
}
RESIDENCIES = ("lfu", "lru", "window", "none")
LAYOUT_OF: dict[str, ModelLayout] = {"topk": "input-channel", "gate": "gate-first", "neuron": "neuron"}


@dataclass(frozen=True)
class Conversion:
    """`order_by` None: neurons in the source's order."""

    name: str
    layout: ModelLayout
    group: int = 1
    order_by: OrderBy | None = None
    copies: Copies = "beside"


CONVERSIONS = (
    *(Conversion(f"ic{group}", "input-channel", group) for group in (1, 2, 4, 8)),
    Conversion("gate", "gate-first"),
    Conversion("gate-co", "gate-first", order_by="coactivation"),
    Conversion("gate-freq", "gate-first", order_by="frequency"),
    Conversion("neuron", "neuron"),
    Conversion("neuron-co", "neuron", order_by="coactivation"),
    Conversion("neuron-co-apart", "neuron", order_by="coactivation", copies="apart"),
    Conversion("neuron-freq", "neuron", order_by="frequency"),
)


@dataclass(frozen=True)
class Variant:
    """One way to run one conversion. `sets` say which questions it answers."""

    policy: str
    sparsity: float
    conversion: str
    residency: str = "lfu"
    preload: str = "none"
    quotas: str | None = None  # what is the default for the residency
    sets: frozenset[SetName] = frozenset()

    @property
    def name(self) -> str:
        changed = [f"residency {self.residency}"] if self.residency != "lfu" else []
        changed += [f"quotas {self.quotas}"] if self.quotas is not None else []
        changed += [f"preload {self.preload}"] if self.preload != "none" else []
        return ", ".join([f"{self.policy} {self.sparsity:.0%} {self.conversion}", *changed])

    @property
    def flags(self) -> tuple[str, ...]:
        flags = ["--select", self.policy, "--sparsity", f"{self.sparsity:g}", "--residency", self.residency]
        flags += ["--quotas", self.quotas] if self.quotas is not None else []
        return (*flags, "--preload", self.preload) if self.preload != "none" else tuple(flags)


def plan_variants(sets: Iterable[SetName], sparsities: Sequence[float], group: int) -> list[Variant]:
    """`group`: layers that lie together where a set does not vary them. Sets other than `policies` take the first
    sparsity; nothing is read ahead where a set does not vary that."""
    merged: dict[Variant, set[SetName]] = {}
    for name in sets:
        for variant in _SETS[name](sparsities, f"ic{group}"):
            merged.setdefault(variant, set()).add(name)
    return [replace(variant, sets=frozenset(names)) for variant, names in merged.items()]


def plan_batches(variants: Sequence[Variant], keep: int) -> list[list[Conversion]]:
    """The conversions that variants need, in the order of CONVERSIONS, `keep` at a time: as many as the disk holds."""
    wanted = {variant.conversion for variant in variants}
    needed = [conversion for conversion in CONVERSIONS if conversion.name in wanted]
    return [needed[start : start + keep] for start in range(0, len(needed), keep)]


def _policies(sparsities: Sequence[float], topk: str) -> list[Variant]:
    places = (("topk", topk), ("gate", "gate"), ("neuron", "neuron"))
    return [Variant(policy, sparsity, place) for sparsity in sparsities for policy, place in places]


def _groups(sparsities: Sequence[float], topk: str) -> list[Variant]:
    """Layers that lie together, with and without reading ahead."""
    return [
        Variant("topk", sparsities[0], f"ic{group}", preload=kind)
        for group in (1, 2, 4, 8)
        for kind in PRELOADS["topk"][:2]
    ]


def _cache(sparsities: Sequence[float], topk: str) -> list[Variant]:
    """What stays in DRAM, and whether layers give room to one another."""
    places = (("topk", topk), ("gate", "gate"), ("neuron", "neuron"))
    fixed = [Variant(policy, sparsities[0], place, quotas="fixed") for policy, place in places]
    return [*fixed, *(Variant(policy, sparsities[0], place, kind) for policy, place in places for kind in RESIDENCIES)]


def _preload(sparsities: Sequence[float], topk: str) -> list[Variant]:
    places = (("topk", topk), ("gate", "gate"), ("neuron", "neuron"))
    return [Variant(policy, sparsities[0], place, preload=k) for policy, place in places for k in PRELOADS[policy]]


def _orders(sparsities: Sequence[float], topk: str) -> list[Variant]:
    names = [found.name for found in CONVERSIONS if found.layout != "input-channel"]
    return [Variant(name.partition("-")[0], sparsities[0], name) for name in names]


_SETS = {"policies": _policies, "groups": _groups, "cache": _cache, "preload": _preload, "orders": _orders}
