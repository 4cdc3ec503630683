"""Which events a seed stands for. Pure: the same seed gives the same events, however long the campaign goes on."""

import random
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from tidemill.runtime.stress.soak.event import KINDS, Draft, Event, Kind

T = TypeVar("T")
PROMPTS = 2  # each greedily and drawn
KEPT = 3  # events in a row that have the same cell as far as they allow
SHARES = (0.0, 0.2, 0.5)  # of the weights that fit the arena; 0: the least that a step needs
DRAFTS: tuple[Draft, ...] = ("none", "ngram")
RESTARTS = (True, True, False)  # of three events of a kind
VARIANTS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "kill": ("compute", "reader", "arena", "predictor", "compute", "reader", "arena", "predictor", "engine"),
        "stop": ("compute", "reader", "arena", "predictor", "everyone"),
        "device": (
            "eio-rate", "short-rate", "flip-rate", "stall", "vanish-a-while", "vanish",
            "eio-medium", "eio-passing", "flip-medium", "flip-passing",
        ),
        "damage": ("bit", "bytes", "page"),
        "page-cache": ("once", "again and again"),
        "stdout": ("at once", "after some bytes", "of --json", "with stderr"),
        "flood": ("messages", "wake-ups"),
        "cgroup": ("while it decodes", "before it opens"),
        "full-disk": ("run directory", "stdout", "csv", "conversion", "conversion midway"),
    }
)  # fmt: skip


def draw_event(seed: int, index: int, kinds: Collection[Kind] = KINDS) -> Event:
    """Event `index` of a seed. Every `len(kinds)` events bring each of `kinds` once, in an order of their own; n events
    of a kind that has n variants go through all of them, likewise."""
    wanted = [kind for kind in KINDS if kind in kinds]
    cycle, place = divmod(index, len(wanted))
    random.Random(f"{seed} order {cycle}").shuffle(wanted)
    cell = random.Random(f"{seed} cell {index // KEPT}")
    share, draft = cell.choice(SHARES), cell.choice(DRAFTS)
    own = random.Random(f"{seed} event {index}")
    kind = wanted[place]
    return Event(
        index=index,
        kind=kind,
        variant=_deal(f"{seed} {kind}", cycle, VARIANTS[kind]),
        prompt=own.randrange(PROMPTS),
        is_sampled=own.random() < 0.5,
        share=share,
        draft=draft,
        restarts=_deal(f"{seed} {kind} restarts", cycle, RESTARTS),
        at=own.uniform(0.1, 0.6),
        delay_s=own.uniform(0.0, 0.03),
        seconds=0.05 * 60 ** own.random(),  # 50 ms to 3 s, as many above as below 390 ms
        place=own.random(),
        rate=10 ** own.uniform(-4.0, -2.0),
    )


def _deal(seed: str, number: int, cards: Sequence[T]) -> T:
    """The card that comes so many cards after the first, of packs that are shuffled one after the other."""
    pack, place = divmod(number, len(cards))
    order = random.Random(f"{seed} {pack}").sample(range(len(cards)), len(cards))
    return cards[order[place]]
