"""From the name of a residency policy to the policy of one table."""

from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.actors.arena.residency.hot_set import HotSet
from tidemill.actors.arena.residency.least_recently_used import LeastRecentlyUsed
from tidemill.actors.arena.residency.no_cache import NoCache
from tidemill.actors.arena.residency.policy import ResidencyPolicy
from tidemill.actors.arena.residency.recent_window import RecentWindow

ResidencyKind = Literal["lfu", "window", "lru", "hot-set", "none"]
RESIDENCY_KINDS: tuple[ResidencyKind, ...] = get_args(ResidencyKind)


QuotaKind = Literal["adaptive", "fixed"]
QUOTA_KINDS: tuple[QuotaKind, ...] = get_args(QuotaKind)
# Whose ranks say how often a bundle is used: what quotas can move by.
ADAPTIVE_KINDS: tuple[ResidencyKind, ...] = ("lfu",)


class ResidencyChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same for every table of a run. `window` counts tokens and matters to `window` alone. `quotas`: whether layers
    may give room to one another; of ADAPTIVE_KINDS alone."""

    kind: ResidencyKind
    window: int = 5
    quotas: QuotaKind = "fixed"

    def __post_init__(self) -> None:
        if self.quotas == "adaptive" and self.kind not in ADAPTIVE_KINDS:
            raise ValueError(f"residency {self.kind} has no counts of uses that quotas could move by")


def choose_part_policy(
    choice: ResidencyChoice, bundle_count: int, quota: int, popularity: npt.NDArray[np.int64] | None = None
) -> ResidencyPolicy:
    """Of one layer's part of a table. A part that is kept whole is loaded at the start, and its ranks don't matter."""
    if quota >= bundle_count:
        return HotSet(np.zeros(bundle_count, np.int64))
    return choose_policy(choice, bundle_count, popularity)


def choose_policy(
    choice: ResidencyChoice, bundle_count: int, popularity: npt.NDArray[np.int64] | None = None
) -> ResidencyPolicy:
    """`popularity` [bundle_count] is needed by `hot-set` alone. Raises ValueError where it is missing or misshapen."""
    match choice.kind:
        case "lfu":
            return ContextualLfu(bundle_count)
        case "window":
            return RecentWindow(bundle_count, choice.window)
        case "lru":
            return LeastRecentlyUsed(bundle_count)
        case "hot-set":
            if popularity is None or popularity.shape != (bundle_count,):
                got = None if popularity is None else popularity.shape
                raise ValueError(
                    f"hot-set needs the popularity of {bundle_count} bundles, got {got}; name a trace with --hot-set"
                )
            return HotSet(popularity)
        case "none":
            return NoCache()
