"""Which channels tokens use, drawn: popular ones again and again, loops, scans, and mixes of those. Pure.

zipf:S     channel k of rank r is wanted with a weight of r^-S (S 1 unless given); ranks are each table's own
loop:P     the first P of the channels (0.5), round and round: what a cache of less than P loses all of by LRU
scan       all channels, round and round
A*0.8+B*0.2   four fifths of a token's channels by A, the rest by B
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tidemill.actors.arena.residency.policy import Ids

KINDS = {"zipf": 1.0, "loop": 0.5, "scan": 1.0}  # and what they take where nothing is said


class Part(NamedTuple):
    kind: str
    parameter: float
    share: float


def parse_mix(text: str) -> Sequence[Part]:
    """Raises ValueError that says what is accepted."""
    parts: list[Part] = []
    for piece in text.split("+"):
        head, _, share = piece.strip().partition("*")
        kind, _, parameter = head.strip().partition(":")
        try:
            part = Part(kind, float(parameter or KINDS.get(kind, 0.0)), float(share or 1.0))
        except ValueError:
            raise _refuse(text) from None
        is_bounded = part.kind == "zipf" or part.parameter <= 1
        if kind not in KINDS or part.parameter <= 0 or not is_bounded or not 0 < part.share <= 1:
            raise _refuse(text)
        parts.append(part)
    if abs(sum(part.share for part in parts) - 1) > 1e-6:
        raise ValueError(f"{text!r}: the shares of a mix add up to 1, got {sum(part.share for part in parts):g}")
    return parts


def draw_tokens(parts: Sequence[Part], channels: int, count: int, rng: np.random.Generator) -> Iterator[Ids]:
    """Of one table, token after token without an end: `count` channels, rising (fewer where parts meet)."""
    streams = [_stream(part, channels, max(1, round(part.share * count)), rng) for part in parts]
    while True:
        yield np.unique(np.concatenate([next(stream) for stream in streams])).astype(np.uint32)


def _stream(part: Part, channels: int, count: int, rng: np.random.Generator) -> Iterator[Ids]:
    if part.kind == "zipf":
        return _zipf(part.parameter, channels, min(count, channels), rng)
    return _round(max(1, round(part.parameter * channels)), count)


def _zipf(exponent: float, channels: int, count: int, rng: np.random.Generator) -> Iterator[Ids]:
    """Drawn without putting back: the `count` highest of log weight + Gumbel noise (Efraimidis, Spirakis 2006)."""
    weights = -exponent * np.log(rng.permutation(channels) + 1.0)
    while True:
        keys = weights + rng.gumbel(size=channels)
        yield np.argpartition(keys, channels - count)[channels - count :].astype(np.uint32)


def _round(length: int, count: int) -> Iterator[Ids]:
    at = 0
    while True:
        yield ((at + np.arange(min(count, length))) % length).astype(np.uint32)
        at = (at + count) % length


def _refuse(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is no mix; write zipf:1.0, loop:0.5, scan, or several with their shares: zipf:1*0.8+scan*0.2"
    )
