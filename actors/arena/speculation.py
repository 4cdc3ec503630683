"""What is wished for before a visit asks for it: kept until the device has time for it, forgotten when its visit comes.

It asks the gate how much may be read, and tells it what became of that. Clock and tokens it knows from visits alone.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from tidemill.actors.arena.bundle_reads import Gather, SpeculatedBytes
from tidemill.actors.arena.bundle_store import BundleStore
from tidemill.actors.arena.prefetch_gate import DeviceLoad, GateRules, PrefetchGate
from tidemill.actors.arena.residency.policy import Ids

ALL = 1 << 40  # bytes: no brake
LEAST_SHARE = 0.25  # of what may be under way at once: smaller reads wait until there is room for more
NOTHING = SpeculatedBytes(0, 0, 0)


class Speculation:
    """With `rules` None nothing is weighed: what is wished for is read as far as there are slots."""

    def __init__(self, store: BundleStore, rules: GateRules | None) -> None:
        self._store = store
        self._rules = rules
        self._gate = None if rules is None else PrefetchGate(rules)
        self._wishes: deque[tuple[int, Ids]] = deque()  # table, bundles
        self._known = NOTHING
        self._first: tuple[int, int] | None = None  # table, layer that tokens of these steps begin with
        self._token_began_ns = 0
        self._waited_ns = 0  # for visits of this token
        self._waits_since_ns: int | None = None
        self._busy_ratio = 0.0
        self.open_tokens = 0

    def wish(self, table: int, bundles: Ids) -> None:
        self._wishes.append((table, bundles))

    def forget(self) -> None:
        """The step was given up; so was all of its speculation."""
        self._wishes.clear()
        self._waits_since_ns = self._first = None

    def begin_visit(self, table: int, layer: int, place: int, *, learns: bool, now_ns: int) -> None:
        """Of its table, what is wished for up to this layer is demanded now or not needed."""
        self._waits_since_ns = now_ns
        self._clock(table, layer, learns=learns, now_ns=now_ns)
        for _ in range(len(self._wishes)):
            wished, bundles = self._wishes.popleft()
            if wished == table:
                bundles = bundles[bundles % np.uint32(self._store.layers_of(table)) > place]
            if bundles.size:
                self._wishes.append((wished, bundles))

    def visit_placed(self, now_ns: int) -> None:
        if self._waits_since_ns is not None:
            self._waited_ns += now_ns - self._waits_since_ns
            self._waits_since_ns = None

    def issue(self, now_ns: int) -> Sequence[Gather]:
        """What may be read now, in the order of the wishes."""
        gathers: list[Gather] = []
        while self._wishes:
            allowed = self._allowed_bytes(now_ns)
            table, bundles = self._wishes[0]
            most = allowed // self._store.bundle_bytes(table)
            if most < 1 or (self._rules is not None and allowed < LEAST_SHARE * self._rules.in_flight_bytes):
                break
            new, rest = self._store.preload(table, bundles, most)
            gathers += new
            self._wishes.popleft()
            if rest.size:
                self._wishes.appendleft((table, rest))
        return gathers

    def _allowed_bytes(self, now_ns: int) -> int:
        if self._gate is None:
            return ALL
        self._tell_gate()
        load = DeviceLoad(
            demands_waiting=int(self._waits_since_ns is not None),
            preload_in_flight_bytes=self._store.speculated_in_flight_bytes,
            busy_ratio=self._busy_ratio,
            token_s=(now_ns - self._token_began_ns) / 1e9,
        )
        return self._gate.allowed_bytes(load)

    def _tell_gate(self) -> None:
        assert self._gate is not None
        now, known = self._store.speculated, self._known
        self._gate.count_useful(now.useful - known.useful)
        self._gate.count_wasted(now.wasted - known.wasted)
        self._known = now

    def _clock(self, table: int, layer: int, *, learns: bool, now_ns: int) -> None:
        """A token ends where a step that selects begins anew. Steps that compute with everything are none."""
        if not learns:
            self._first = None
        elif self._first is None or (table, layer) == self._first:
            if self._first is not None:
                self._end_token(now_ns - self._token_began_ns)
            self._first = table, layer
            self._token_began_ns, self._waited_ns = now_ns, 0

    def _end_token(self, elapsed_ns: int) -> None:
        self._busy_ratio = self._waited_ns / max(1, elapsed_ns)
        if self._gate is None:
            self.open_tokens += 1
            return
        self._tell_gate()
        self.open_tokens += int(self._gate.is_open)
        self._gate.token_ended(elapsed_ns / 1e9)
