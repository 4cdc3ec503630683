"""What can be wrong with an emulated drive: the rules, how they are written, and which reads they hit.

Whether a rule with a rate hits a read is a function of the seed, of the read's place and of how often that place was
read before: not of the order in which reads come, which threads and processes decide.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.devices.emulated.pauses import S, Stall
from tidemill.storage.quantities import is_time, parse_bytes, parse_seconds, parse_share

U64 = npt.NDArray[np.uint64]
FaultKind = Literal["eio", "short", "flip", "stall", "vanish", "enospc"]
ReadFault = Literal["eio", "short", "flip"]
READ_FAULTS: tuple[ReadFault, ...] = get_args(ReadFault)
NEVER = float("inf")
FORMS = (
    "eio:1e-4 or eio:@OFFSET or eio:@OFFSETx2 (a share of reads; those over a byte of a shard; the first two such), "
    "short:… and flip:… likewise; stall:2s@10s or stall:2s@1GiB (so long, after so much reading), "
    "vanish:@10s (for good) or vanish:5s@1GiB, enospc:@1GiB (written)"
)


class FaultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`share` of reads, or those over the byte at `offset` of any shard, the first `times` (None: all). `seconds`: how
    long, None for ever; after `after_s` since the first read, or `after_bytes`."""

    kind: FaultKind
    share: float | None = None
    offset: int | None = None
    times: int | None = None
    seconds: float | None = None
    after_s: float | None = None
    after_bytes: int | None = None


def parse_fault(text: str) -> FaultRule:
    """Raises ValueError that lists what is possible."""
    kind, colon, rest = text.partition(":")
    amount, at, place = rest.partition("@")
    if kind not in get_args(FaultKind) or not colon or not (amount or place):
        raise ValueError(f"{text!r} is no fault, accepted: {FORMS}")
    if kind in READ_FAULTS:
        if bool(at) == bool(amount):
            raise ValueError(f"{text!r} needs a share of reads or an offset, accepted: {FORMS}")
        if not at:
            return FaultRule(kind=kind, share=parse_share(amount))
        offset, _, times = place.partition("x")
        if times and not (times.isascii() and times.isdecimal() and int(times)):
            raise ValueError(f"{text!r} ends in x and no whole number, accepted: {FORMS}")
        return FaultRule(kind=kind, offset=parse_bytes(offset), times=int(times) if times else None)
    is_whole = {"stall": bool(amount), "vanish": True, "enospc": not amount and not is_time(place)}[kind]
    if not place or not is_whole:
        raise ValueError(f"{text!r} does not say how long or when, accepted: {FORMS}")
    return FaultRule(
        kind=kind,  # type: ignore[arg-type]
        seconds=parse_seconds(amount) if amount else None,
        after_s=parse_seconds(place) if is_time(place) else None,
        after_bytes=None if is_time(place) else parse_bytes(place),
    )


def stalls_of(rules: Sequence[FaultRule]) -> list[Stall]:
    return [Stall(rule.seconds or 0.0, rule.after_s, rule.after_bytes) for rule in rules if rule.kind == "stall"]


class Hit(NamedTuple):
    """A fault, the place that it befalls (`read` of a request's), and the byte that is wrong, for a flip."""

    kind: ReadFault
    read: int
    byte: int


class FaultDice:
    """Says of each read whether a rule hits it; the first that does counts."""

    def __init__(self, rules: Sequence[FaultRule], seed: int) -> None:
        self._rules = [rule for rule in rules if rule.kind in READ_FAULTS]
        self._left = [rule.times for rule in self._rules]
        self._seen: Counter[tuple[int, int]] = Counter()  # how often a place was read
        self._seed = seed

    @property
    def has_rules(self) -> bool:
        return bool(self._rules)

    def throw(self, shards: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> Hit | None:
        """Of reads that belong to one request."""
        places = list(zip(shards, offsets, strict=True))
        nth = [self._seen[place] for place in places]
        if any(rule.share is not None for rule in self._rules):
            self._seen.update(places)
        for number, rule in enumerate(self._rules):
            words = _mix(shards, offsets, nth, self._seed + (number << 32))
            read = self._find(number, rule, words, offsets, lengths)
            if read is not None:
                byte = int(words[read]) % lengths[read] if rule.offset is None else rule.offset - offsets[read]
                return Hit(rule.kind, read, byte)  # type: ignore[arg-type]
        return None

    def _find(
        self, number: int, rule: FaultRule, words: U64, offsets: Sequence[int], lengths: Sequence[int]
    ) -> int | None:
        if rule.share is not None:
            hits = np.flatnonzero((words >> np.uint64(11)).astype(np.float64) < rule.share * (1 << 53))
            return int(hits[0]) if len(hits) else None
        assert rule.offset is not None
        left = self._left[number]
        for read, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            if offset <= rule.offset < offset + length and left != 0:
                self._left[number] = None if left is None else left - 1
                return read
        return None


class Vanishing:
    """When the drive is gone. `begin` comes first; times are ns of its clock."""

    def __init__(self, rules: Sequence[FaultRule]) -> None:
        self._rules = [rule for rule in rules if rule.kind == "vanish"]
        self._gone: list[tuple[float, float]] = []
        self._has_begun = False

    def begin(self, now: float) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        for rule in self._rules:
            if rule.after_s is not None:
                self._add(rule, now + rule.after_s * S)

    def is_gone(self, now: float, served_bytes: int) -> bool:
        for rule in [r for r in self._rules if r.after_bytes is not None and r.after_bytes <= served_bytes]:
            self._rules.remove(rule)
            self._add(rule, now)
        return any(start <= now < stop for start, stop in self._gone)

    def next_ns(self, now: float) -> float:
        return min((start for start, _ in self._gone if start > now), default=NEVER)

    def _add(self, rule: FaultRule, start: float) -> None:
        self._gone.append((start, NEVER if rule.seconds is None else start + rule.seconds * S))


def _mix(shards: Sequence[int], offsets: Sequence[int], nth: Sequence[int], seed: int) -> U64:
    """splitmix64 of all four, one after the other: 64 random bits for each read."""
    word = np.full(len(offsets), seed % (1 << 64), np.uint64)
    for values in (shards, offsets, nth):
        word = (word ^ np.array(values, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word = word ^ (word >> np.uint64(31))
    return word
