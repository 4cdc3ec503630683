"""Chooses each pass's draft: the kind and length that lead to most tokens per second, or none. Pure: the same
passes lead to the same choices, and no bit of the output depends on them.

**Never much slower than plain decoding.** Of every pass that drafts, what it took beyond its tokens' plain time is put
down as lost, and what it saved as won, though no more than `MOST_WON` steps are kept. A pass is not chosen if the worst
that can come of it, no draft being right, would put the loss above `LOSS_RATIO` of the time spent and `LOSS_STEPS`:
together 2.1 % of the time at 256 tokens.

**Where chains end.** The length is a bound. With it goes a bar for every further token: what the time of its draft lap
and of its place in the check is worth, in tokens. A drafter that knows how sure it is of what it drafted ends the chain
where one more token promises less.

**Trying again.** What the estimates say loses is tried after a wait that doubles with each loss, and is the
shorter the less there is to lose. Drafts that win are
interrupted by a plain step now and then, so that the comparison stays true as the context grows.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tidemill.actors.compute.drafting.acceptance import Acceptance
from tidemill.actors.compute.drafting.pass_times import PassTimes
from tidemill.actors.compute.drafting.passes import Choice, Pass
from tidemill.actors.compute.drafting.spec import DraftKind

NONE = Choice("none", 0)
PLAIN_FIRST = 2  # plain passes before anything is compared with them
# Drafting passes after which one is plain; the latter where drafts win so clearly that no better figure would matter.
PLAIN_AGAIN, PLAIN_AGAIN_RARELY, CLEAR_WIN = 24, 96, 1.3
LEAST_GAIN, LONGER = 0.02, 1.002  # what promises no more than that, over none or per drafted token, is taken for noise
LOSS_RATIO, LOSS_STEPS, MOST_WON = 0.015, 1.5, 4.0
MOST_CHARGED = 1.5  # of what a pass usually takes: what is beyond that happens to plain steps too
FIRST_WAIT, MOST_WAIT = 12, 256  # plain passes between two trials of a kind that loses; fewer where they cost little
RECENT_KEEP = 0.98  # of tokens and time, per pass


class _Promise(NamedTuple):
    """What is expected of a pass: tokens, its mean time, and that with every draft drafted."""

    tokens: float
    mean_ns: float
    most_ns: float

    @property
    def rate(self) -> float:
        return self.tokens / self.mean_ns


class DraftChooser:
    """Asked before each pass and told of each, in turn. `begin_request` forgets what texts decide and keeps what the
    machine does."""

    def __init__(self, kinds: Sequence[DraftKind], most: int, fixed_length: int | None) -> None:
        """`kinds` without "none". `fixed_length`: drafted in every pass that has room, by the first kind that can."""
        self._kinds = tuple(kinds)
        self._most = most
        self._fixed_length = fixed_length
        self._times = PassTimes()
        self._acceptance = Acceptance()
        self._room, self._match, self._chosen = 0, 0, NONE  # of the pass under way
        self._plain_seen = self._since_plain = 0
        self._waits = dict.fromkeys(self._kinds, FIRST_WAIT)
        self._waited = dict.fromkeys(self._kinds, 0)
        self._spent_ns = self._lost_ns = 0.0
        self._recent_tokens = self._recent_ns = 0.0

    def begin_request(self) -> None:
        self._acceptance = Acceptance()
        self._waits = dict.fromkeys(self._kinds, FIRST_WAIT)
        self._waited = dict.fromkeys(self._kinds, 0)
        self._recent_tokens = self._recent_ns = 0.0

    def choose(self, *, room: int, match: int) -> Choice:
        """`room`: how many tokens the pass may bring, by the context and by what is still wanted, 1 or more: it drafts
        one less at most. `match`: how many tokens the n-gram draft's context matches; 0: it has none to offer."""
        self._room, self._match = room, match
        self._chosen = self._choose()
        return self._chosen

    def _choose(self) -> Choice:
        most = min(self._most, self._room - 1)
        kinds = [kind for kind in self._kinds if kind != "ngram" or self._match > 0]
        if most < 1 or not kinds:
            return NONE
        if self._fixed_length is not None:
            return Choice(kinds[0], min(self._fixed_length, most))
        if self._plain_seen < PLAIN_FIRST or self._since_plain >= self._plain_again:
            return NONE
        return self._choose_best(kinds, most)

    def observe(self, done: Pass) -> None:
        """The pass that was chosen last. It may have drafted less than was chosen."""
        self._spent_ns += done.total_ns
        if self._match and self._room > 1:  # what looking back proposed is known to be right or wrong, drafted or not
            known = min(done.tokens, self._most, self._room - 1)
            self._acceptance.observe_ngram(self._match, most=known, right=done.echoed)
        self._recent_tokens = RECENT_KEEP * self._recent_tokens + done.tokens
        self._recent_ns = RECENT_KEEP * self._recent_ns + done.total_ns
        if done.drafted == 0:
            self._plain_seen += 1
            self._since_plain = 0
            self._waited = {kind: waited + 1 for kind, waited in self._waited.items()}
        else:
            self._observe_draft(done)
        self._times.observe(done)

    def _observe_draft(self, done: Pass) -> None:
        self._since_plain += 1
        if done.kind != "ngram":
            most = self._chosen.length
            self._acceptance.observe(done.kind, most=most, drafted=done.drafted, accepted=done.accepted)
        plain_ns = self._times.plain_ns
        if plain_ns == 0.0:  # a fixed length: there is nothing to compare with, nor to choose
            return
        usual_ns = self._times.predict(done.kind, most=done.drafted)[-1]
        lost_ns = min(done.total_ns, MOST_CHARGED * usual_ns) - done.tokens * plain_ns
        self._lost_ns = max(self._lost_ns + lost_ns, -MOST_WON * plain_ns)
        self._waits[done.kind] = min(2 * self._waits[done.kind], MOST_WAIT) if lost_ns > 0 else FIRST_WAIT
        self._waited[done.kind] = 0

    @property
    def _plain_again(self) -> int:
        wins = self._times.plain_ns * self._recent_tokens > CLEAR_WIN * self._recent_ns
        return PLAIN_AGAIN_RARELY if wins else PLAIN_AGAIN

    def _choose_best(self, kinds: Sequence[DraftKind], most: int) -> Choice:
        plain_ns = self._times.plain_ns
        room_ns = LOSS_RATIO * self._spent_ns + LOSS_STEPS * plain_ns - self._lost_ns
        promises = {kind: list(self._promises(kind, most)) for kind in kinds}
        worth = self._worth([promise for each in promises.values() for promise in each])
        best, best_value = NONE, 1 + LEAST_GAIN - worth * plain_ns
        trial, trial_rate = NONE, 0.0
        for kind, each in promises.items():
            for length, promise in enumerate(each, 1):
                most_lost_ns = promise.most_ns - plain_ns
                if most_lost_ns > room_ns:
                    continue
                if promise.tokens - worth * promise.mean_ns > best_value:
                    best, best_value = Choice(kind, length), promise.tokens - worth * promise.mean_ns
                waited = self._waited[kind] * plain_ns >= self._waits[kind] * min(plain_ns, most_lost_ns)
                if promise.rate > trial_rate and waited:
                    trial, trial_rate = Choice(kind, length), promise.rate
        if best.length:
            return self._with_bars(best, worth, most, room_ns)
        return self._with_bars(trial, worth, trial.length, room_ns)

    def _promises(self, kind: DraftKind, most: int) -> Iterator[_Promise]:
        """Of passes that may draft 1, 2, … `most` tokens."""
        times = self._times.predict(kind, most=most)
        right = self._acceptance.right(kind, self._match, most=most)
        drafted = self._acceptance.drafted(kind, most=most)
        tokens, laps, mean_ns = 1.0, 0.0, times[0]
        for depth, reached in enumerate(drafted):
            tokens, laps = tokens + right[depth], laps + reached
            mean_ns += reached * (times[depth + 1] - times[depth])
            yield _Promise(tokens / LONGER**laps, mean_ns, times[depth + 1])

    def _worth(self, promises: Sequence[_Promise]) -> float:
        """Tokens that a nanosecond brings otherwise: where passes differ, what is best in the long run is what brings
        most beyond its time at the rate of them all (renewal reward; Dinkelbach, 1967). What was so far is late, what
        is promised now is only of now: the mean, and no less than plain decoding."""
        plain = 1 / self._times.plain_ns
        now = max(promise.rate for promise in promises)
        so_far = min(self._recent_tokens / self._recent_ns, now) if self._recent_ns else now
        return max(plain, (so_far + now) / 2)

    def _with_bars(self, choice: Choice, worth: float, most: int, room_ns: float) -> Choice:
        """One more token is drafted if it promises more than its time is worth. So the length need not be the bound,
        and is as much as may be lost."""
        if choice.kind in ("none", "ngram"):  # n-grams have no second choice to be unsure of
            return choice
        times = self._times.predict(choice.kind, most=most)
        length = max((n for n in range(1, most + 1) if times[n] - times[0] <= room_ns), default=choice.length)
        bars = [worth * (after - before) for before, after in pairwise(times[1 : length + 1])]
        return Choice(choice.kind, length, tuple(bars))
