"""How much of a table one token uses, and what to say of a cache that is smaller."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableCache:
    """`active_share`: of the bundles, what one token uses: 1 - sparsity, or what calibration measured for the union of
    the operators that share the input."""

    name: str
    bundle_count: int
    active_share: float
    quota: int

    @property
    def demand(self) -> int:
        return cache_demand(self.bundle_count, self.active_share)


def cache_demand(bundle_count: int, active_share: float) -> int:
    """Bundles of a table that one token uses on average, rounded up."""
    if not 0.0 <= active_share <= 1.0:
        raise ValueError(f"an active share of {active_share}; expected 0 to 1")
    # A share computed as 1 - 0.7 is a hair above 0.3: that must not cost a bundle.
    return min(bundle_count, math.ceil(bundle_count * active_share - 1e-9 * bundle_count))


def warn_of_small_caches(tables: Sequence[TableCache]) -> str | None:
    """A warning where caches hold less than one token's demand; None where all hold it.

    Below it a cache shared by all tables hits nothing at all under LRU (each token flushes it before the next one
    begins); a table's own cache still hits, but at most quota / demand.
    """
    small = [table for table in tables if table.quota < table.demand]
    if not small:
        return None
    worst = min(small, key=lambda table: table.quota / table.demand)
    return (
        f"the cache of {len(small)} of {len(tables)} tables is smaller than one token's demand; worst: {worst.name} "
        f"holds {worst.quota} of {worst.demand} bundles, so at most {worst.quota / worst.demand:.0%} of what a token "
        "uses can be hits there and the rest is read for every token; raise --ram or --sparsity"
    )
