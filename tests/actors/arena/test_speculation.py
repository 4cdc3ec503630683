"""When wishes are read: not while a visit waits, not more at once than the gate allows, not after their own visit."""

from dataclasses import replace

import numpy as np

from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.arena.speculation import Speculation
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable

CHANNELS, SLOT_BYTES, LAYERS = 16, 64, 3
SECOND = 1_000_000_000
RULES = GateRules(in_flight_bytes=4 * SLOT_BYTES, demand_rate=1e9, preload_rate=1e9, first_wait_tokens=4)


class Token:
    """A model of three layers, each with one table of its own; a token takes what its visits wait."""

    def __init__(self, rules: GateRules | None) -> None:
        tables = tuple(CachedTable(layer, 0, CHANNELS, (2,)) for layer in range(LAYERS))
        plan = BundlePlan((BundlePool(0, SLOT_BYTES, 64),), tables)
        self.store = BundleStore(plan, ResidencyChoice("none"))
        self.speculation = Speculation(self.store, rules)
        self.now = SECOND
        self.request = 0

    def begin(self, layer: int, channels: list[int], *, learns: bool = True) -> list[int]:
        """The tickets that the visit waits for."""
        self.request += 1
        self.speculation.begin_visit(layer, layer, 0, learns=learns, now_ns=self.now)
        bundles = np.array(channels, np.uint32)
        reads = self.store.visit(self.request, layer, 0, bundles, learns=learns)
        return [gather.ticket for gather in reads.gathers] + list(reads.promoted)

    def end(self, tickets: list[int], seconds: float) -> None:
        self.now += int(seconds * SECOND)
        for ticket in tickets:
            self.store.arrived(ticket)
        self.speculation.visit_placed(self.now)
        self.now += int(seconds * SECOND)  # as much computing as waiting
        self.store.end_visit(self.request)

    def run(self, seconds: float = 1.0) -> None:
        """A token without any preload."""
        for layer in range(LAYERS):
            self.end(self.begin(layer, [1, 2]), seconds / 2 / LAYERS)

    def wish(self, layer: int, *channels: int) -> None:
        self.speculation.wish(layer, np.array(channels, np.uint32))

    def issue(self) -> list[list[int]]:
        return [gather.bundles.tolist() for gather in self.speculation.issue(self.now)]


def opened() -> Token:
    """At layer 0 of the second token, which the gate tries preloads in."""
    token = Token(RULES)
    token.run()
    token.end(token.begin(0, [1, 2]), 0.0)
    return token


def test_without_rules_every_wish_is_read_at_once() -> None:
    token = Token(None)
    token.begin(0, [1])
    token.wish(1, *range(9))
    assert token.issue() == [list(range(9))]


def test_the_first_token_is_left_alone() -> None:
    token = Token(RULES)
    token.end(token.begin(0, [1]), 0.1)
    token.wish(1, 3)
    assert token.issue() == []


def test_wishes_wait_while_a_visit_waits() -> None:
    token = opened()
    tickets = token.begin(1, [5])
    token.wish(2, 3, 4)
    assert token.issue() == []
    token.end(tickets, 0.0)
    assert token.issue() == [[3, 4]]


def test_no_more_is_under_way_at_once_than_the_rules_say() -> None:
    token = opened()
    token.wish(1, *range(9))
    first = list(token.speculation.issue(token.now))
    assert [gather.bundles.tolist() for gather in first] == [[0, 1, 2, 3]]
    assert token.issue() == []
    token.store.arrived(first[0].ticket)
    assert token.issue() == [[4, 5, 6, 7]]


def test_a_wish_ends_with_the_visit_that_it_was_for() -> None:
    token = opened()
    token.wish(1, 3, 4)
    token.wish(2, 6)
    token.end(token.begin(1, [3]), 0.0)
    assert token.issue() == [[6]]


def test_a_step_that_is_given_up_takes_its_wishes_along() -> None:
    token = opened()
    token.wish(1, 3, 4)
    token.speculation.forget()
    assert token.issue() == []


def test_it_backs_off_where_demands_keep_the_device_busy_and_most_was_in_vain() -> None:
    token = opened()
    token.wish(1, *range(8, 12))
    (gather,) = token.speculation.issue(token.now)
    token.store.arrived(gather.ticket)
    token.end(token.begin(1, [1]), 0.0)  # none of them
    token.wish(2, 3)
    assert token.issue() == []  # demands were waited for during half of the token before
    assert token.store.speculated.wasted == 4 * SLOT_BYTES


def test_tokens_that_preloads_make_slower_close_the_gate() -> None:
    token = Token(replace(RULES, slack_ratio=2.0))
    for seconds in (1.0, 1.5, 1.0, 1.0):
        token.run(seconds)
    token.end(token.begin(0, [1]), 0.0)
    token.wish(1, 3)
    assert token.issue() == []
    assert token.speculation.open_tokens == 1


def test_tokens_are_counted_between_steps_that_select_alone() -> None:
    token = Token(RULES)
    token.run()
    token.now += 100 * SECOND  # a person thinks
    for layer in range(LAYERS):
        token.end(token.begin(layer, [0], learns=False), 1.0)
    token.run()
    token.end(token.begin(0, [1]), 0.0)
    token.wish(1, 3)
    assert token.issue() == [[3]]
