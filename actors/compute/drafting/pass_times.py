"""How long a pass takes, learned from passes: drafting, computing the check, and streaming what isn't in DRAM.

A pass that drafts n tokens takes   n · draft + max(compute of n + 1 positions, streaming of the lap - what was read
while drafting) + what a plain step takes beside both. Every figure is a median of recent ones.
"""

from collections import deque
from statistics import median, median_low

from tidemill.actors.compute.drafting.passes import Pass
from tidemill.actors.compute.drafting.spec import DraftKind

RECENT, RECENT_PLAIN = 15, 31  # passes that a median is of
STALLED = 0.05  # of a check's time: one that waited more was bound by streaming
# If reading while drafting saved so much less than that took, the ring was full.
FULL_OF_DRAFT, FULL_OF_STREAM = 0.15, 0.05
FULL_PASSES = 4  # of the recent ones; fewer are accidents
FIRST_SLOPE = 0.25  # a further position's compute over the first's, before any was seen
FIRST_WEIGHT = 8.0  # what that weighs, in squared positions: a pass two positions off the mean weighs 4
LEAST_RATIO, MOST_RATIO = 0.5, 2.0  # between what a kind's passes take and what this model says


class _Recent:
    """The median of the last few, the lower one of two: what is slow once is an accident. 0 of none."""

    def __init__(self, most: int = RECENT) -> None:
        self._seen: deque[float] = deque(maxlen=most)
        self.middle = 0.0

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, value: float) -> None:
        self._seen.append(value)
        self.middle = median_low(self._seen)


class PassTimes:
    """Kept over requests: times are the machine's and the model's."""

    def __init__(self) -> None:
        self._plain = _Recent(RECENT_PLAIN)
        self._streams = _Recent()  # of laps that read nothing ahead; 0: compute took longer
        # What drafting saved of streaming where that was less than its time; None where it wasn't.
        self._ahead: deque[float | None] = deque(maxlen=RECENT)
        self._computes: dict[int, _Recent] = {}  # by positions
        self._drafts: dict[DraftKind, _Recent] = {}  # per token
        self._ratios: dict[DraftKind, _Recent] = {}
        self._single_ns = self._base_ns = self._slope_ns = 0.0  # of one position, and the line through more

    @property
    def plain_ns(self) -> float:
        """A step without drafts; 0 before there was one."""
        return self._plain.middle

    def observe(self, done: Pass) -> None:
        if done.drafted and self._plain:
            ratio = done.total_ns / max(1.0, self._model(done.drafted, done.draft_ns))
            self._ratios.setdefault(done.kind, _Recent()).add(ratio)
        self._computes.setdefault(done.positions, _Recent()).add(done.check_ns - done.stall_ns)
        self._fit()
        is_stalled = done.stall_ns > STALLED * done.check_ns
        if done.drafted == 0:
            self._plain.add(done.total_ns)
            self._streams.add(done.check_ns if is_stalled else 0)
            return
        self._drafts.setdefault(done.kind, _Recent()).add(done.draft_ns / done.drafted)
        if is_stalled and done.draft_ns > 0:
            stream_ns = self._streams.middle
            saved = stream_ns - done.check_ns
            is_full = done.draft_ns - saved > max(FULL_OF_DRAFT * done.draft_ns, FULL_OF_STREAM * stream_ns)
            self._ahead.append(max(0.0, saved) if is_full else None)

    def predict(self, kind: DraftKind, *, most: int) -> list[float]:
        """Nanoseconds of a pass that drafts 0, 1, … `most` tokens; above 0. Needs a plain step before."""
        # before any was drafted: nothing for n-grams, else as much as computing a position takes
        first_ns = 0.0 if kind == "ngram" else self._compute(1)
        draft_ns = self._drafts[kind].middle if kind in self._drafts else first_ns
        ratio = min(max(self._ratios[kind].middle, LEAST_RATIO), MOST_RATIO) if kind in self._ratios else 1.0
        drafting = [ratio * self._model(drafted, drafted * draft_ns) for drafted in range(1, most + 1)]
        return [max(1.0, self.plain_ns), *drafting]

    def _model(self, drafted: int, draft_ns: float) -> float:
        stream_ns = self._streams.middle
        beside_ns = max(0.0, self.plain_ns - max(self._compute(1), stream_ns))
        full = [saved for saved in self._ahead if saved is not None]
        ahead_ns = min(draft_ns, median(full)) if len(full) >= FULL_PASSES else draft_ns
        return max(1.0, draft_ns + max(self._compute(drafted + 1), stream_ns - ahead_ns) + beside_ns)

    def _compute(self, positions: int) -> float:
        """More positions never take less than one."""
        return max(self._single_ns, self._base_ns + self._slope_ns * positions) if positions > 1 else self._single_ns

    def _fit(self) -> None:
        """A line through the medians of two positions and more, each weighing as its passes do; one position has
        kernels of its own. The slope starts from FIRST_SLOPE, and neither part is negative."""
        points = [(count, seen.middle, len(seen)) for count, seen in self._computes.items() if count > 1]
        if 1 in self._computes:
            self._single_ns = self._computes[1].middle
        weight = sum(point[2] for point in points)
        first_slope = FIRST_SLOPE * self._single_ns
        if weight == 0:
            self._base_ns, self._slope_ns = self._single_ns - first_slope, first_slope
            return
        mean_count = sum(count * seen for count, _, seen in points) / weight
        mean_ns = sum(ns * seen for _, ns, seen in points) / weight
        spread = sum(seen * (count - mean_count) ** 2 for count, _, seen in points)
        rise = sum(seen * (count - mean_count) * (ns - mean_ns) for count, ns, seen in points)
        slope = (rise + FIRST_WEIGHT * first_slope) / (spread + FIRST_WEIGHT)
        self._slope_ns = min(max(slope, 0.0), mean_ns / mean_count)
        self._base_ns = mean_ns - self._slope_ns * mean_count
