"""How long a pass takes, learned from passes: drafting, computing the check, and streaming what isn't in DRAM.

A pass that drafts n tokens takes   n · draft + max(compute of n + 1 positions, streaming of the lap - what was read
while drafting) + what a plain step takes beside both. Every figure is a median of recent ones.
"""

from collections import deque
from statistics import median

from tidemill.actors.compute.drafting.passes import Pass
from tidemill.actors.compute.drafting.spec import DraftKind

RECENT = 9  # passes that a median is of
STALLED = 0.05  # of a check's time: one that waited more was bound by streaming
FULL = 0.8  # of the drafting time: if less was saved by reading meanwhile, the ring was full
FIRST_SLOPE = 0.25  # a further position's compute over the first's, before any was seen
LEAST_RATIO, MOST_RATIO = 0.5, 2.0  # between what a kind's passes take and what this model says


class PassTimes:
    """Kept over requests: times are the machine's and the model's."""

    def __init__(self) -> None:
        self._plain: deque[int] = deque(maxlen=RECENT)
        self._streams: deque[int] = deque(maxlen=RECENT)  # of laps that read nothing ahead; 0: compute took longer
        self._computes: dict[int, deque[int]] = {}  # by positions
        self._drafts: dict[DraftKind, deque[float]] = {}  # per token
        self._ahead: deque[float] = deque(maxlen=RECENT)  # most that drafting saved of streaming; inf: all of its time
        self._ratios: dict[DraftKind, deque[float]] = {}

    @property
    def plain_ns(self) -> float | None:
        """A step without drafts; None before there was one."""
        return median(self._plain) if self._plain else None

    def observe(self, done: Pass) -> None:
        if done.drafted and self._plain:
            ratio = done.total_ns / max(1.0, self._model(done.kind, done.drafted, done.draft_ns))
            self._ratios.setdefault(done.kind, deque(maxlen=RECENT)).append(ratio)
        self._computes.setdefault(done.positions, deque(maxlen=RECENT)).append(done.check_ns - done.stall_ns)
        is_stalled = done.stall_ns > STALLED * done.check_ns
        if done.drafted == 0:
            self._plain.append(done.total_ns)
            self._streams.append(done.check_ns if is_stalled else 0)
            return
        self._drafts.setdefault(done.kind, deque(maxlen=RECENT)).append(done.draft_ns / done.drafted)
        if is_stalled and done.draft_ns > 0:
            saved = self._stream() - done.check_ns
            self._ahead.append(max(0.0, saved) if saved < FULL * done.draft_ns else float("inf"))

    def predict(self, kind: DraftKind, drafted: int) -> float:
        """Nanoseconds of a pass that drafts so many tokens; above 0. Needs a plain step before."""
        if drafted == 0:
            return max(1.0, median(self._plain))
        draft_ns = drafted * (median(self._drafts[kind]) if kind in self._drafts else self._first_draft_ns(kind))
        ratio = median(self._ratios[kind]) if kind in self._ratios else 1.0
        return self._model(kind, drafted, draft_ns) * min(max(ratio, LEAST_RATIO), MOST_RATIO)

    def _model(self, kind: DraftKind, drafted: int, draft_ns: float) -> float:
        plain = median(self._plain)
        beside = max(0.0, plain - max(self._compute(1), self._stream()))
        ahead = min(draft_ns, median(self._ahead) if self._ahead else draft_ns)
        return max(1.0, draft_ns + max(self._compute(drafted + 1), self._stream() - ahead) + beside)

    def _first_draft_ns(self, kind: DraftKind) -> float:
        """Before any was drafted: nothing for n-grams, else as much as computing a position takes."""
        return 0.0 if kind == "ngram" else self._compute(1)

    def _stream(self) -> float:
        return float(median(self._streams)) if self._streams else 0.0

    def _compute(self, positions: int) -> float:
        """A line through the medians by positions, each weighing as its passes do; never falling."""
        points = [(count, float(median(seen)), len(seen)) for count, seen in self._computes.items()]
        weight = sum(point[2] for point in points)
        mean_count = sum(count * seen for count, _, seen in points) / weight
        mean_ns = sum(ns * seen for _, ns, seen in points) / weight
        spread = sum(seen * (count - mean_count) ** 2 for count, _, seen in points)
        if spread == 0.0:
            slope = FIRST_SLOPE * mean_ns / (1 + FIRST_SLOPE * (mean_count - 1))
        else:
            slope = sum(seen * (count - mean_count) * (ns - mean_ns) for count, ns, seen in points) / spread
        slope = min(max(slope, 0.0), mean_ns / mean_count)  # base and slope aren't negative
        return mean_ns + slope * (positions - mean_count)
