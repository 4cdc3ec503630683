"""What is done to a cell that decodes: the kinds, and one event with everything that was drawn for it."""

from typing import Literal, get_args

import msgspec

Kind = Literal["kill", "stop", "device", "damage", "page-cache", "stdout", "flood", "cgroup", "full-disk"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Draft = Literal["none", "ngram"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Each kind has variants of its own. `prompt` counts the campaign's; `share` of the weights fit the arena; it
    happens `delay_s` after the token at `at` of the request's; `seconds` is how long it lasts and `place`, `rate` where
    and how often, where that has a meaning."""

    index: int
    kind: Kind
    variant: str
    prompt: int
    is_sampled: bool
    share: float
    draft: Draft
    restarts: bool
    at: float
    delay_s: float
    seconds: float
    place: float
    rate: float

    @property
    def text(self) -> str:
        return f"{self.kind} {self.variant}"
