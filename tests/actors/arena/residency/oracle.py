"""Residency in plain dicts and loops, one bundle at a time: what the vectorised table must equal step by step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidemill.actors.arena.residency.choose_policy import ResidencyKind


@dataclass
class OracleTable:
    kind: ResidencyKind
    quota: int
    window: int
    popularity: list[int]
    uses: dict[int, int] = field(default_factory=dict)
    last_used: dict[int, int] = field(default_factory=dict)
    visits: int = 0
    cached: dict[int, int] = field(default_factory=dict)  # bundle -> slot
    staged: dict[int, int] = field(default_factory=dict)
    active: set[int] = field(default_factory=set)

    def visit(self, active: Iterable[int], *, learns: bool = True) -> list[int]:
        self.active = set(active)
        if learns:
            self.visits += 1
            for bundle in self.active:
                self.uses[bundle] = self.uses.get(bundle, 0) + 1
                self.last_used[bundle] = self.visits
        return sorted(self.active - set(self.cached) - set(self.staged))

    def settle(self) -> tuple[set[int], set[int], set[int]]:
        """Admitted, evicted, and the slots that are free again."""
        before = dict(self.cached)
        self._expire()
        loaded = sorted(self.active & set(self.staged), key=lambda bundle: (-self._worth(bundle), bundle))
        for bundle in loaded:
            if self.kind == "none" or self.quota == 0:
                break
            if self._is_expired(bundle):
                continue
            if len(self.cached) == self.quota:
                least = self._least()
                if self._worth(bundle) <= self._worth(least):
                    break
                del self.cached[least]
            self.cached[bundle] = self.staged[bundle]
        return self._changes(before)

    def set_quota(self, quota: int) -> tuple[set[int], set[int], set[int]]:
        before = dict(self.cached)
        shrinks, self.quota = quota < self.quota, quota
        if shrinks:
            self._expire()
        staged, self.staged = self.staged, {}
        while len(self.cached) > quota:
            del self.cached[self._least()]
        changes = self._changes(before)
        self.staged = staged
        return changes

    def drop(self, bundles: Iterable[int]) -> set[int]:
        """The slots of what was cached or staged."""
        return {(self.cached if bundle in self.cached else self.staged).pop(bundle) for bundle in bundles}

    def new_sequence(self) -> None:
        self.uses.clear()
        if self.kind == "window":
            self.last_used.clear()

    def _changes(self, before: dict[int, int]) -> tuple[set[int], set[int], set[int]]:
        admitted, evicted = set(self.cached) - set(before), set(before) - set(self.cached)
        freed = {before[bundle] for bundle in evicted} | {
            slot for bundle, slot in self.staged.items() if bundle not in admitted
        }
        self.staged, self.active = {}, set()
        return admitted, evicted, freed

    def _expire(self) -> None:
        self.cached = {bundle: slot for bundle, slot in self.cached.items() if not self._is_expired(bundle)}

    def _is_expired(self, bundle: int) -> bool:
        return self.kind == "window" and self.last_used.get(bundle, -self.window) <= self.visits - self.window

    def _least(self) -> int:
        return min(self.cached, key=lambda bundle: (self._worth(bundle), -bundle))

    def _worth(self, bundle: int) -> float:
        match self.kind:
            case "lfu":
                return self.uses.get(bundle, 0)
            case "hot-set":
                return self.popularity[bundle] - bundle / (len(self.popularity) + 1)
            case _:
                return self.last_used.get(bundle, 0)
