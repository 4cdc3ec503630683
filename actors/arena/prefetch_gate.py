"""Whether speculation is issued, and how much: the brake of prefetching. Pure; knows no clock, device or policy.

Prefetch can improve every count of its own and lose time. Three brakes, from fast to slow:

1. It yields: no byte while a demand waits, and never more than `in_flight_bytes` under way, which is what a demand that
   comes just then has to wait for.
2. It must pay by the bytes. A preloaded byte that is used saves its demand read, 1 / demand rate, on the critical
   path; every preloaded byte, used or not, takes 1 / preload rate of a device that demands want for `busy_ratio` of the
   time. So it is issued only while    useful share / demand rate > busy ratio / preload rate.
3. It must pay by the clock. Tokens without and with it are compared, A B A so that drift cancels out: what loses is
   switched off and tried again after a wait that doubles each time; what wins is checked again ever more rarely, and at
   once when tokens become slower than those without it were. A token that takes visibly longer than those without
   prefetch gets no more of it, and what a lost trial cost is waited off at `regret_ratio` of the time. Where trials win
   but the tokens after them lose, twice in a row, the trials are not believed.
"""

import math
from dataclasses import dataclass
from statistics import mean
from typing import Literal

Phase = Literal["before", "trial", "after", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """`*_rate` in bytes per second, as measured for reads of the sizes that demands and preloads have."""

    in_flight_bytes: int
    demand_rate: float
    preload_rate: float
    first_wait_tokens: int = 32
    most_wait_tokens: int = 1024
    regret_ratio: float = 0.01  # of the time may be lost to trials, in the long run
    keep_ratio: float = 0.8  # of the counts that brake 2 judges by, per token: old ones fade, so it is tried again
    slack_ratio: float = 1.1  # once a token took that much longer than those without, nothing more is preloaded in it
    first_watch_tokens: int = 4  # so many that are slower in the mean than those without call for a new comparison
    by_clock: bool = True  # False: no token is compared with any other (brake 3), to measure what preloads do


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLoad:
    """The device as it is now. `busy_ratio`: share of recent time that demands alone kept it busy.
    `token_s`: since the present token began."""

    demands_waiting: int
    preload_in_flight_bytes: int
    busy_ratio: float
    token_s: float


class PrefetchGate:
    """Told of every preloaded byte's end and every token's; asked before each preload."""

    def __init__(self, rules: GateRules) -> None:
        """Raises ValueError for rates or sizes that aren't above 0."""
        if min(rules.in_flight_bytes, rules.demand_rate, rules.preload_rate, rules.first_wait_tokens) <= 0:
            raise ValueError(f"{rules}: expected sizes, rates and waits above 0")
        self._rules = rules
        self._phase: Phase = "before"
        self._compared: list[float] = []  # seconds of the tokens of this comparison: before, trial, after
        self._without_s = 0.0
        self._disputed = 0  # comparisons in a row that won, and were contradicted by the tokens after them
        self._watched: list[float] = []  # seconds of the last tokens with prefetch
        self._watch_tokens = rules.first_watch_tokens
        self._tokens_left = 0
        self._wait_tokens = self._keep_tokens = rules.first_wait_tokens
        self._useful_recent = self._wasted_recent = 0.0
        self.useful_bytes = 0
        self.wasted_bytes = 0

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def is_open(self) -> bool:
        return self._phase in ("trial", "on") or not self._rules.by_clock

    def allowed_bytes(self, load: DeviceLoad) -> int:
        """How many further bytes may be preloaded right now."""
        if not self.is_open or load.demands_waiting or not self._pays(load.busy_ratio):
            return 0
        if self._rules.by_clock and load.token_s > self._rules.slack_ratio * self._without_s:
            return 0
        return max(0, self._rules.in_flight_bytes - load.preload_in_flight_bytes)

    def count_useful(self, size_bytes: int) -> None:
        self.useful_bytes += size_bytes
        self._useful_recent += size_bytes

    def count_wasted(self, size_bytes: int) -> None:
        """Preloaded, and evicted or expired unused. A read that was cancelled before it began is no waste."""
        self.wasted_bytes += size_bytes
        self._wasted_recent += size_bytes

    def token_ended(self, seconds: float) -> None:
        self._useful_recent *= self._rules.keep_ratio
        self._wasted_recent *= self._rules.keep_ratio
        match self._phase:
            case "before":
                self._compared, self._phase, self._without_s = [seconds], "trial", seconds
            case "trial":
                self._compared.append(seconds)
                self._phase = "after"
            case "after":
                self._compared.append(seconds)
                self._judge()
            case "on":
                self._watch(seconds)
            case "off":
                self._tokens_left -= 1
                if self._tokens_left <= 0:
                    self._phase = "before"

    def _judge(self) -> None:
        before_s, trial_s, after_s = self._compared
        self._without_s = mean((before_s, after_s))
        self._watched.clear()
        if trial_s < self._without_s:
            self._phase, self._tokens_left = "on", self._keep_tokens
            self._keep_tokens = min(2 * self._keep_tokens, self._rules.most_wait_tokens)
            self._watch_tokens = min(2 * self._watch_tokens, self._rules.first_wait_tokens)
            self._wait_tokens = self._rules.first_wait_tokens
        else:
            self._switch_off(lost_s=trial_s - self._without_s)
            self._wait_tokens = min(2 * self._wait_tokens, self._rules.most_wait_tokens)
            self._keep_tokens = self._rules.first_wait_tokens
            self._watch_tokens = self._rules.first_watch_tokens

    def _watch(self, seconds: float) -> None:
        self._tokens_left -= 1
        self._watched = [*self._watched[1 - self._watch_tokens :], seconds]
        slow = len(self._watched) == self._watch_tokens and mean(self._watched) > self._without_s
        if slow:
            self._disputed += 1
            self._phase = "before"
            if self._disputed > 1:
                self._switch_off(lost_s=sum(self._watched) - len(self._watched) * self._without_s)
        elif self._tokens_left <= 0:
            self._disputed = 0
            self._phase = "before"

    def _switch_off(self, *, lost_s: float) -> None:
        lost_tokens = lost_s / max(self._without_s, 1e-9)
        self._phase = "off"
        self._tokens_left = max(self._wait_tokens, math.ceil(lost_tokens / self._rules.regret_ratio))

    def _pays(self, busy_ratio: float) -> bool:
        """With little known, a preload counts as useful: `in_flight_bytes` of good faith."""
        useful = self._useful_recent + self._rules.in_flight_bytes
        share = useful / (useful + self._wasted_recent)
        return share / self._rules.demand_rate > busy_ratio / self._rules.preload_rate
