"""Which bundles of one table lie where. It owns residence, not slots: those come from a pool and go back to it."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.outcomes import ResidencyCounts, Settlement, Slots, Visit
from tidemill.actors.arena.residency.policy import Ids, Index, Ranks, ResidencyPolicy

_ABSENT, _STAGED, _USED, _CACHED = 0, 1, 2, 3
_NO_SLOT = -1
_NOTHING = np.empty(0, np.intp)
_NO_IDS: Ids = np.empty(0, np.uint32)
_UNCHANGED = Settlement(_NO_IDS, _NO_IDS, _NO_IDS, _NO_IDS, np.empty(0, np.int32))


class TableResidency:
    """One table, or one layer's part of a table that spans a layer group: what a step visits once.

    A bundle is *absent*, *staged* (it has a slot that it is being or was loaded to, for the visit under way or the next
    one) or *cached* (it stays until it is evicted). The order of calls:

        stage(ids, slots)   speculation, any number of times before the visit
        visit(active)       -> where the active bundles lie and which are missing; from here on the visit is open
        stage(ids, slots)   the missing ones, when their reads go out
        settle()            compute is done with the slots: who is admitted, who is evicted, which slots are free

    `freed` slots whose read is still under way (wasted preloads, abandoned visits) must not be used again before the
    read is answered: that is the pool's matter. What is cached depends on the visits alone, not on what was preloaded
    or on the order of reads, so a replayed trace gives the hit rate of the run. `quota` bounds what is cached; staged
    bundles come on top.
    """

    def __init__(self, policy: ResidencyPolicy, bundle_count: int, quota: int) -> None:
        self._policy = policy
        self._bundle_count = bundle_count
        self._id_bits = max(1, (bundle_count - 1).bit_length())
        self._quota = self._checked(quota)
        self._slot_of = np.full(bundle_count, _NO_SLOT, np.int32)
        self._state = np.zeros(bundle_count, np.uint8)
        # The cached bundles, dense in [0, _used) in no order: a place that is given up takes the last one's bundle.
        self._cached = np.empty(bundle_count, np.intp)
        self._used = 0
        self._preloaded: list[Index] = []
        self._demanded: list[Index] = []
        self._is_open = False
        self._counts = np.zeros(8, np.int64)
        self._visits = 0

    @property
    def quota(self) -> int:
        return self._quota

    @property
    def bundle_count(self) -> int:
        return self._bundle_count

    @property
    def cached_count(self) -> int:
        return self._used

    @property
    def cached(self) -> Ids:
        """The cached bundles, rising."""
        return np.sort(self._cached[: self._used]).astype(np.uint32)

    @property
    def bookkeeping_bytes(self) -> int:
        """Memory of a table's arrays and its policy's: a line of the ledger."""
        arrays = (self._slot_of, self._state, self._cached)
        return sum(array.nbytes for array in arrays) + self._policy.bookkeeping_bytes

    @property
    def counts(self) -> ResidencyCounts:
        return ResidencyCounts(self._visits, *(int(count) for count in self._counts))

    def initial(self) -> Ids:
        """What the policy wants cached before the first visit; the arena loads it and calls `place`."""
        return self._policy.initial(self._quota)

    def place(self, bundles: Ids, slots: Slots) -> None:
        """Cache absent `bundles` at once, up to the quota: a set that was loaded at start."""
        if self._is_open or self._used + bundles.size > self._quota:
            raise ValueError(
                f"{bundles.size} bundles placed beside {self._used} cached ones: expected at most the quota of "
                f"{self._quota}, between visits"
            )
        index = self._absent(bundles, slots)
        self._state[index] = _CACHED
        self._slot_of[index] = slots
        self._cached[self._used : self._used + index.size] = index
        self._used += index.size

    def ranks(self) -> Ranks:
        """[bundle_count]: of every bundle, cached or not."""
        return self._policy.rank(np.arange(self._bundle_count))

    def absent(self, bundles: Ids) -> Ids:
        """Those of `bundles` that have no slot: what a prediction has to read."""
        return np.compress(self._state[bundles] == _ABSENT, bundles)

    def slots_of(self, bundles: Ids) -> Slots:
        """[n] -> [n]; -1 for an absent bundle."""
        return self._slot_of[bundles]

    def is_idle(self, bundles: Ids) -> npt.NDArray[np.bool_]:
        """[n] -> [n]: staged, and not of the visit under way."""
        idle: npt.NDArray[np.bool_] = self._state[bundles] == _STAGED
        return idle

    def stage(self, bundles: Ids, slots: Slots) -> None:
        """Absent `bundles` are on their way to `slots`: missing ones while a visit is open, predicted ones before."""
        index = self._absent(bundles, slots)
        self._state[index] = _USED if self._is_open else _STAGED
        self._slot_of[index] = slots
        (self._demanded if self._is_open else self._preloaded).append(index)

    def unstage(self, bundles: Ids) -> Slots:
        """Give up staged `bundles` (cancelled or failed reads); returns their slots."""
        index = bundles.astype(np.intp)
        if np.any((self._state[index] == _ABSENT) | (self._state[index] == _CACHED)):
            raise ValueError("only staged bundles can be unstaged")
        slots = self._forget(index)
        for staged in (self._preloaded, self._demanded):
            staged[:] = [still[self._state[still] != _ABSENT] for still in staged]
        return slots

    def drop(self, bundles: Ids) -> Slots:
        """Give up staged or cached `bundles`, whose reads failed; returns their slots."""
        index = bundles.astype(np.intp)
        is_cached = self._state[index] == _CACHED
        gone = np.flatnonzero(np.isin(self._cached[: self._used], index[is_cached]))
        slots = np.concatenate((self.unstage(bundles[~is_cached]), self._forget(index[is_cached])))
        self._replace(gone, _NOTHING)
        return slots

    def visit(self, active: Ids, *, learns: bool = True) -> Visit:
        """A step uses `active` [n], rising. A visit that teaches the policy nothing is no use by the context: a dense
        one. Raises ValueError for ids that don't rise or don't exist."""
        if self._is_open:
            raise RuntimeError("the visit before was not settled")
        index = active.astype(np.intp)
        if index.size and (int(index[-1]) >= self._bundle_count or np.any(index[1:] <= index[:-1])):
            raise ValueError(f"active bundles must rise and lie below {self._bundle_count}")
        state = self._state[index]
        missing = index[state == _ABSENT]
        preloaded = index[state == _STAGED]
        self._state[preloaded] = _USED
        self._is_open = True
        if learns:
            self._policy.begin_visit(index)
            self._visits += 1
            hits = index.size - missing.size - preloaded.size
            self._counts[:4] += (index.size, hits, preloaded.size, missing.size)
        return Visit(self._slot_of[index], _ids(missing))

    def settle(self) -> Settlement:
        """The visit is over: keep the best `quota` of what is cached or was loaded and used."""
        if not self._is_open:
            raise RuntimeError("there is no visit to settle")
        preloaded = _joined(self._preloaded)
        was_used = self._state[preloaded] == _USED
        return self._close(_joined([preloaded[was_used], *self._demanded]), preloaded[~was_used])

    def abandon(self) -> Slots:
        """Give up what is staged and the visit, if one is open; returns the slots of staged bundles. Cached ones stay,
        and the policy does not unlearn the visit."""
        slots = self._forget(_joined([*self._preloaded, *self._demanded]))
        self._end_visit()
        return slots

    def set_quota(self, quota: int) -> Settlement:
        """Between visits: a lower quota evicts the lowest ranks at once; a higher one is filled by later visits."""
        if self._is_open:
            raise RuntimeError("the quota changes between visits")
        before, self._quota = self._quota, self._checked(quota)
        return self._retain(_NOTHING, _NOTHING) if self._quota < before else _UNCHANGED

    def new_sequence(self) -> None:
        self._policy.new_sequence()

    def validate(self) -> None:
        """Raises AssertionError when the arrays disagree. Tests call it after every step."""
        state, has_slot = self._state, self._slot_of >= 0
        cached, staged = self._cached[: self._used], _joined([*self._preloaded, *self._demanded])
        assert _lists(cached, state == _CACHED), "cached list and states disagree"
        assert _lists(staged, (state == _STAGED) | (state == _USED)), "staged lists and states disagree"
        assert has_slot.tobytes() == (state != _ABSENT).tobytes(), "slots and states disagree"
        slots = self._slot_of[has_slot].tolist()
        assert len(set(slots)) == len(slots), "two bundles lie in one slot"
        assert self._is_open or self._used <= self._quota, "more is cached than the quota"
        assert self._is_open or not self._demanded, "demanded bundles outlived their visit"

    # --- inside

    def _checked(self, quota: int) -> int:
        if quota < 0:
            raise ValueError(f"a quota of {quota} bundles; expected 0 or more")
        return min(quota, self._bundle_count)

    def _absent(self, bundles: Ids, slots: Slots) -> Index:
        index = bundles.astype(np.intp)
        if index.size != slots.size or np.any(self._state[index] != _ABSENT):
            raise ValueError(f"{bundles.size} bundles for {slots.size} slots, some of them not absent")
        return index

    def _close(self, loaded: Index, wasted: Index) -> Settlement:
        settlement = self._retain(loaded, wasted)
        self._end_visit()
        return settlement

    def _end_visit(self) -> None:
        self._preloaded.clear()
        self._demanded.clear()
        self._is_open = False

    def _retain(self, loaded: Index, wasted: Index) -> Settlement:
        cached = self._cached[: self._used]
        stays = self._best(self._keys(np.concatenate((cached, loaded)), cached.size))
        admitted = loaded[stays[self._used :]]
        refused = loaded[~stays[self._used :]]
        places = np.flatnonzero(~stays[: self._used])
        evicted = cached[places]
        freed = self._forget(np.concatenate((evicted, refused, wasted)))
        self._state[admitted] = _CACHED
        self._replace(places, admitted)
        self._counts[4:] += (admitted.size, evicted.size, refused.size, wasted.size)
        return Settlement(_ids(admitted), _ids(evicted), _ids(refused), _ids(wasted), freed)

    def _keys(self, bundles: Index, cached_count: int) -> Ranks:
        """Rank, then residence (the first `cached_count` are cached), then the lower id, in one number: none is equal
        to another."""
        keys = self._policy.rank(bundles)
        keys <<= 1
        keys[:cached_count] |= 1
        keys <<= self._id_bits
        keys |= (1 << self._id_bits) - 1 - bundles
        return keys

    def _best(self, keys: Ranks) -> npt.NDArray[np.bool_]:
        stays = keys >= 0
        if self._quota < keys.size and np.count_nonzero(stays) > self._quota:
            if self._quota == 0:
                return np.zeros(keys.size, np.bool_)  # there is no place to cut at
            cut = keys.size - self._quota
            stays = keys >= np.partition(keys, cut)[cut]
        return stays

    def _forget(self, bundles: Index) -> Slots:
        slots = self._slot_of[bundles]
        self._slot_of[bundles] = _NO_SLOT
        self._state[bundles] = _ABSENT
        return slots

    def _replace(self, places: Index, admitted: Index) -> None:
        """Bundles take the given-up places; what is left of either extends or shrinks the dense list."""
        both = min(places.size, admitted.size)
        self._cached[places[:both]] = admitted[:both]
        more = admitted[both:]
        self._cached[self._used : self._used + more.size] = more
        holes = places[both:]  # rising
        left = self._used - holes.size
        tail = np.ones(holes.size, np.bool_)
        tail[holes[holes >= left] - left] = False
        self._cached[holes[holes < left]] = self._cached[left : self._used][tail]
        self._used += more.size - holes.size


def _ids(index: Index) -> Ids:
    return index.astype(np.uint32)


def _joined(parts: list[Index]) -> Index:
    return np.concatenate(parts) if parts else _NOTHING


def _lists(bundles: Index, where: npt.NDArray[np.bool_]) -> bool:
    """Whether they are, in any order, those where the mask is set. Tests ask after every message: the bytes
    of arrays this small are compared in a tenth of the time of `np.array_equal`."""
    ordered = bundles.astype(np.intp)
    ordered.sort()
    return ordered.tobytes() == where.nonzero()[0].tobytes()
