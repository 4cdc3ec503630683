"""Text as windows of tokens, and an engine's pass over them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidemill.actors.messages import WindowEvaluated
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import PrefillProgressed
from tidemill.runtime.quality.scores import ScoreSums


@dataclass(frozen=True, slots=True)
class WindowProgress:
    """`done` counts windows and the part of the one under way."""

    what: str
    done: float
    total: int
    tokens_per_s: float  # of text, every variant of it computed
    perplexities: tuple[float, ...]  # of the variants, over the windows that are done; empty before the first


def cut_windows(token_ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive windows; a last one of a single token has nothing to predict and is left out."""
    windows = [token_ids[start : start + size] for start in range(0, len(token_ids), size)]
    return [window for window in windows if len(window) > 1]


def evaluate_windows(
    engine: Engine, windows: Sequence[Sequence[int]], sums: ScoreSums, what: str
) -> Iterator[WindowProgress]:
    """Adds every window's scores to `sums` as the progress is taken. Raises what `Engine.evaluate` does."""
    begun, tokens = time.perf_counter(), 0
    for index, window in enumerate(windows):
        for event in engine.evaluate(window):
            share = event.done / event.total if isinstance(event, PrefillProgressed) else 0.0
            if isinstance(event, WindowEvaluated):
                sums.add(event)
                share = 1.0
            rate = (tokens + share * len(window)) / (time.perf_counter() - begun)
            yield WindowProgress(what, index + share, len(windows), rate, sums.perplexities())
        tokens += len(window)
